"""DBOS Transact: workflows of 1 and 5 steps that do nothing; prints one JSON object.

Each way in which a user with two cores may run it: direct calls from threads or coroutines,
in one process or two, and its queue, on the polling interval at which it does best; and one
workflow at a time, called directly and through the queue. Run by bench.executor in an
environment of its own:

    python run.py POSTGRES_URL
"""

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dbos import DBOS, DBOSConfig

WARM_UP = 50
COUNTS = {"one_step": 1500, "five_step": 500}
POLL_SECONDS = 0.01
IDLE = 200


@DBOS.step()
def nothing() -> None:
    return None


@DBOS.workflow()
def one_step() -> None:
    nothing()


@DBOS.workflow()
def five_step() -> None:
    for _ in range(5):
        nothing()


@DBOS.step()
async def nothing_async() -> None:
    return None


@DBOS.workflow()
async def one_step_async() -> None:
    await nothing_async()


@DBOS.workflow()
async def five_step_async() -> None:
    for _ in range(5):
        await nothing_async()


@dataclass(frozen=True)
class Way:
    """A way to run workflows: how, in how many processes, and how many at once in each."""

    how: str
    processes: int
    width: int
    # What differs from DBOS's own settings.
    settings: tuple[tuple[str, object], ...] = ()


WAYS = {
    "direct_4": Way("threads", 1, 4),
    "direct_8": Way("threads", 1, 8),
    "direct_2x8": Way("threads", 2, 8),
    "direct_2x8_no_ping": Way("threads", 2, 8, (("db_engine_kwargs", {"pool_pre_ping": False}),)),
    "async_2x8": Way("coroutines", 2, 8),
    "queue_2x8": Way("queue", 2, 8),
}


def by_threads(workflow, count: int, width: int) -> None:
    with ThreadPoolExecutor(width) as pool:
        list(pool.map(lambda _: workflow(), range(count)))


def by_coroutines(workflow, count: int, width: int) -> None:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await workflow()

    async def callers() -> None:
        await asyncio.gather(*(caller() for _ in range(width)))

    asyncio.run(callers())


def by_queue(workflow, count: int, width: int) -> None:
    with ThreadPoolExecutor(width) as pool:
        handles = list(pool.map(lambda _: DBOS.enqueue_workflow("bench", workflow), range(count)))
    for handle in handles:
        handle.get_result(polling_interval_sec=POLL_SECONDS)


def idle_by_call(workflow) -> None:
    workflow()


def idle_by_queue(workflow) -> None:
    handle = DBOS.enqueue_workflow("bench", workflow)
    handle.get_result(polling_interval_sec=POLL_SECONDS)


IDLE_WAYS = {"call": idle_by_call, "queue": idle_by_queue}


def launch(url: str, way: Way) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        **dict(way.settings),
    }
    DBOS(config=config)
    DBOS.launch()
    if way.how == "queue":
        DBOS.register_queue(
            "bench", worker_concurrency=way.width, polling_interval_sec=POLL_SECONDS
        )


def idle(url: str) -> dict[str, float]:
    """Milliseconds of one workflow at a time, from the start to its result in hand."""
    launch(url, Way("queue", 1, 8))
    figures = {}
    for name, way in IDLE_WAYS.items():
        one, five = (sorted(times(way, workflow)) for workflow in (one_step, five_step))
        figures[f"idle_{name}_ms_p50"] = one[IDLE // 2]
        figures[f"idle_{name}_ms_p99"] = one[IDLE * 99 // 100]
        figures[f"added_step_{name}_ms"] = (five[IDLE // 2] - one[IDLE // 2]) / 4
    DBOS.destroy()
    return figures


def times(way, workflow) -> list[float]:
    taken = []
    for _ in range(WARM_UP + IDLE):
        started = time.perf_counter()
        way(workflow)
        taken.append((time.perf_counter() - started) * 1000)
    return taken[WARM_UP:]


def share(url: str, way: Way, name: str, count: int) -> None:
    """One process's share: says that it is ready, waits for the word, says when it was done."""
    launch(url, way)
    run = {"threads": by_threads, "coroutines": by_coroutines, "queue": by_queue}[way.how]
    workflow = globals()[name + ("_async" if way.how == "coroutines" else "")]
    run(workflow, WARM_UP, way.width)
    tell("ready")
    started = time.time()
    run(workflow, count, way.width)
    # The other process may still need this one, to run what it has taken from the queue.
    tell(f"{started} {time.time()}")
    DBOS.destroy()


def tell(text: str) -> None:
    """Write a line, and wait for one."""
    print(text, flush=True)
    sys.stdin.readline()


def measure(url: str, way_name: str, workflow: str) -> float:
    """Workflows per second of all processes together."""
    way = WAYS[way_name]
    count = COUNTS[workflow] // way.processes
    command = [sys.executable, __file__, url, way_name, workflow, str(count)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(way.processes)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        print(file=process.stdin, flush=True)
    times = [tuple(map(float, process.stdout.readline().split())) for process in processes]
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0
    elapsed = max(end for _, end in times) - min(start for start, _ in times)
    return count * way.processes / elapsed


def main() -> None:
    if len(sys.argv) > 2:
        url, way, workflow, count = sys.argv[1:]
        share(url, WAYS[way], workflow, int(count))
        return
    figures = {
        f"{workflow}_{way}": measure(sys.argv[1], way, workflow)
        for way in WAYS
        for workflow in COUNTS
    }
    print(json.dumps(figures | idle(sys.argv[1])))


if __name__ == "__main__":
    main()
