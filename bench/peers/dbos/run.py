"""DBOS Transact, no-op workflows of 1 and 5 steps; prints one JSON object.

Direct calls from 4 and 8 threads, its best settings on two cores. Run by bench.executor in
an environment of its own: python run.py POSTGRES_URL RUNS
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig

WARM_UP = 100
ONE_STEP = 1500
FIVE_STEP = 500


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


def rate(workflow, count: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: workflow(), range(count)))
        return count / (time.perf_counter() - started)


def main() -> None:
    url, runs = sys.argv[1], int(sys.argv[2])
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    figures: dict[str, list[float]] = {}
    rate(one_step, WARM_UP, 4)
    for _ in range(runs):
        for threads in (4, 8):
            one = rate(one_step, ONE_STEP, threads)
            five = rate(five_step, FIVE_STEP, threads)
            figures.setdefault(f"one_step_direct_{threads}", []).append(one)
            figures.setdefault(f"five_step_direct_{threads}", []).append(five)
    DBOS.destroy()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
