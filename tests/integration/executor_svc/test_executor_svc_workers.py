"""Workers that die, freeze and stop: real processes, real signals."""

import asyncio
import signal
from functools import partial

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    chain,
    held_steps,
    output_of,
    state_of,
    steps_of,
)
from tests.integration.executor_svc.worker_process import worker_process
from tests.pauses import pauses

CLOSING_SECONDS = 0.8
# Longer than a message takes to a worker that is ready, on a slow machine.
IDLE_SECONDS = 3


async def test_a_stopped_worker_hands_its_steps_back(mesh, tmp_path):
    what, value, path, go = held_steps(tmp_path)
    # A fifth of the time is left for closing.
    with worker_process(mesh, tmp_path / "log", drain_seconds=5 * CLOSING_SECONDS) as worker:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(path)) == 4, WAIT_SECONDS)
        worker.signal(signal.SIGTERM)
        async with pauses() as seen:
            code = await asyncio.to_thread(worker.wait)
        assert noted(path).count("cancelled") == 3
    if code != 0:
        # The machine stood still while it was closing, and its lease is there yet.
        assert seen.longest_seconds > CLOSING_SECONDS / 2, worker.log.read_text()
        await mesh.let_leases_run_out()
    go.touch()
    async with mesh.worker():
        task = await mesh.client.wait(task_id)
    assert output_of(task) == [0, 1, 2]
    assert steps_of(task)["before"].attempt == 1
    assert {steps_of(task)[f"held[{n}]"].attempt for n in range(3)} == {2}


async def test_a_stopping_worker_lets_steps_finish(mesh, tmp_path):
    what, value, path, go = held_steps(tmp_path, 1)
    with worker_process(mesh, tmp_path / "log", drain_seconds=30) as worker:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(path)) == 2, WAIT_SECONDS)
        worker.signal(signal.SIGTERM)
        await eventually(lambda: "is stopping" in worker.log.read_text(), WAIT_SECONDS)
        go.touch()
        assert worker.wait() == 0
    step = await mesh.client.step(task_id, "held[0]")
    assert state_of(step) == "SUCCEEDED"
    assert step.attempt == 1
    async with mesh.worker():
        assert output_of(await mesh.client.wait(task_id)) == [0]


async def test_a_worker_that_is_to_end_when_idle_does_what_waits_and_no_more(mesh, tmp_path):
    waiting = [await mesh.client.create(chain(2), 1) for _ in range(3)]
    with worker_process(mesh, tmp_path / "log", exit_when_idle_seconds=IDLE_SECONDS) as worker:
        for task_id in waiting:
            assert output_of(await mesh.client.wait(task_id)) == 3
        assert await asyncio.to_thread(worker.wait) == 0, worker.log.read_text()
    late = await mesh.client.create(chain(2), 1)
    with worker_process(mesh, tmp_path / "log", exit_when_idle_seconds=IDLE_SECONDS):
        assert output_of(await mesh.client.wait(late)) == 3


async def test_a_step_that_kills_its_workers_fails_in_the_end(mesh, tmp_path):
    """Lost once more than `max_losses` allows: the next worker gives the step up."""
    what, value, path, _ = held_steps(tmp_path, 1)
    task_id = await mesh.client.create(what, value)
    for attempt in range(1, 4):
        async with mesh.worker(max_losses=2):
            await mesh.client.until(task_id, "held[0]", "RUNNING")
            await eventually(partial(_ran, path, attempt))
    async with mesh.worker(max_losses=2):
        task = await mesh.client.wait(task_id)
    assert task.failure.reason == "STEP_WORKER_LOST"
    assert task.failure.step_id == "held[0]"
    history = await mesh.client.history(task_id)
    assert history[-2:] == ["STEP_FAILED held[0] 4", "TASK_FAILED"]
    assert len([line for line in history if line.startswith("STEP_LOST held[0]")]) == 3
    assert not _ran(path, 4)


class _Changing(set):
    """What another thread takes something from while one goes through it for the first time."""

    looks = 0

    def __iter__(self):
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("Set changed size during iteration")
        return super().__iter__()


async def test_connections_are_closed_while_threads_close_theirs(mesh):
    async with mesh.worker() as worker:
        await mesh.client.run(chain(1), 1)
        broker = worker._actors._broker
        connections = list(broker.connections)
        broker.connections = _Changing(connections)
    assert connections
    await eventually(lambda: all(each.is_closed for each in connections))
    assert broker.connections.looks > 1


def _ran(path, attempt):
    return f"held[0] {attempt}" in noted(path)
