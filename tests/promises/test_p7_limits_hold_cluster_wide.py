"""P7: limits hold over all workers, also while some of them die or seem to be dead.

What runs is counted by a gauge outside of Stepwire; see gauge.py.
"""

import asyncio
import json
import os
import signal
import time

import pytest

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    FUNCTIONS,
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    python,
    state_of,
)
from tests.integration.executor_svc.worker_process import worker_process
from tests.pauses import pauses
from tests.promises.gauge import Life, most_at_once, rate_excess, read_lives

BURST, PER_SECOND = 5, 20
# A start that is later than this is asked for anew, unless the machine stands still just then.
LATE_SECONDS = 1.0
# What is shorter is no such pause.
PAUSE_SECONDS = 0.5
# Slow steps are held back by their places, quick ones by their rate.
MAX_RUNNING = {"slow": 3, "quick": 30}
SECONDS = {"slow": 0.3, "quick": 0.02}
TASKS = 40
WORKER = {
    "step_modules": json.dumps([FUNCTIONS, "tests.promises.gauge"]),
    "lease_seconds": 1.5,
    "renew_seconds": 0.2,
}


def graph_of(key):
    limit = {
        "key": "input.key",
        "max_running": MAX_RUNNING[key],
        "max_starts": BURST,
        "period": {"nanos": BURST * 1_000_000_000 // PER_SECOND},
    }
    return graph(python("a", "gauge", input="input", limit=limit, retry=NO_RETRY))


def life(begin, end, key="k"):
    return Life(key, f"{begin}", 1, 1, begin, end, ended=True)


def test_the_gauge_sees_too_many_at_once():
    """Also those that went on after they had been stopped."""
    assert most_at_once([life(0, 1), life(1, 2), life(2, 3)]) == 1
    assert most_at_once([life(0, 1), life(0.9, 2), life(0.95, 3)]) == 3
    assert most_at_once([life(0, 10), life(2, 3), life(4, 5)]) == 2


def test_the_gauge_sees_too_many_starts():
    even = [life(number / PER_SECOND, number) for number in range(100)]
    allowed = {"burst": BURST, "per_second": PER_SECOND, "late_seconds": LATE_SECONDS}
    assert rate_excess(even, **allowed) == 0
    assert rate_excess([life(0, 1)] * (BURST + PER_SECOND), **allowed) == 0
    assert rate_excess([life(0, 1)] * (BURST + PER_SECOND + 1), **allowed) == 1
    twice = [life(number / PER_SECOND / 2, number) for number in range(100)]
    assert rate_excess(twice, **allowed) > 10


def is_full(path):
    slow = [each for each in read_lives(path) if each.key == "slow"]
    return most_at_once(slow) == MAX_RUNNING["slow"]


async def caught(process, path, worker):
    """Wait until a worker runs a slow step, and stop it right then; return what it runs."""
    while True:
        await eventually(lambda: held_by(process, path, newer_than=0.05), WAIT_SECONDS)
        worker.signal(signal.SIGSTOP)
        held = held_by(process, path, newer_than=WAIT_SECONDS)
        if held:
            return held
        worker.signal(signal.SIGCONT)


def held_by(process, path, *, newer_than):
    """What a process has begun and not ended, with a sign of life of late."""
    now = time.monotonic()
    return [
        each
        for each in read_lives(path)
        if each.process == process
        and each.key == "slow"
        and not each.ended
        and now - each.end < newer_than
    ]


async def are_at_work(mesh, count):
    (row,) = await mesh.fetch("SELECT count(*) FROM executor.worker_sessions")
    return row["count"] == count


@pytest.mark.timeout(300)
async def test_limits_hold_while_workers_are_killed_and_stopped(mesh, tmp_path):
    path, full = tmp_path / "gauge", tmp_path / "full"
    log = tmp_path / "log"
    async with pauses() as seen:
        with (
            worker_process(mesh, log, **WORKER) as stopped,
            worker_process(mesh, log, **WORKER) as killed,
            worker_process(mesh, log, **WORKER),
        ):
            await eventually(lambda: are_at_work(mesh, 3), WAIT_SECONDS)
            ids = await asyncio.gather(
                *(
                    mesh.client.create(
                        graph_of(key),
                        {
                            "path": str(path),
                            "until": str(full if key == "slow" else log),
                            "key": key,
                            "seconds": SECONDS[key],
                        },
                    )
                    for _ in range(TASKS)
                    for key in SECONDS
                )
            )
            # All places are of use: the first slow ones wait for each other.
            await eventually(lambda: is_full(path), WAIT_SECONDS)
            full.touch()
            victims = await caught(killed.pid, path, killed)
            killed.signal(signal.SIGKILL)
            frozen = await caught(stopped.pid, path, stopped)

            def again(lost):
                steps = {each.step for each in lost}
                return steps <= {each.step for each in read_lives(path) if each.attempt > 1}

            # Others have taken them for dead, and run their steps.
            await eventually(lambda: again(victims) and again(frozen), WAIT_SECONDS)
            stopped.signal(signal.SIGCONT)
            tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert {state_of(task) for task in tasks} == {"SUCCEEDED"}
    pause = seen.longest_seconds
    late_seconds = LATE_SECONDS + (pause if pause > PAUSE_SECONDS else 0)
    lives = read_lives(path)
    assert os.getpid() not in {each.process for each in lives}
    for key in SECONDS:
        of_key = [each for each in lives if each.key == key]
        assert len({each.step for each in of_key}) == TASKS
        assert most_at_once(of_key) <= MAX_RUNNING[key]
        excess = rate_excess(of_key, burst=BURST, per_second=PER_SECOND, late_seconds=late_seconds)
        assert excess == 0
    # Nobody has a place that is not needed.
    left = await mesh.fetch("SELECT * FROM executor.limit_holders")
    assert left == []
