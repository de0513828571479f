"""A stack under steady load, with retention at work: does anything grow that should not?

Partitions of a minute, dropped after some; samples of dead rows, sizes and memory. Prints
one JSON object: rates, and slopes per minute over the second half of the run.

    python -m bench.soak --minutes 4 [--tasks-per-second 100]
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import uvloop

from bench.graphs import chain
from bench.stacks import Bench, stack
from stepwire.api.executor.v1 import executor_service_pb2 as pb

MEBIBYTE = 2**20
MINUTE = 60.0
SAMPLE_SECONDS = 5.0
SETTINGS = {
    "STEPWIRE_EXECUTOR_PARTITION_HOURS": str(1 / 60),
    "STEPWIRE_EXECUTOR_RETENTION_DAYS": str(1 / 24 / 60),
    "STEPWIRE_EXECUTOR_RETENTION_SWEEP_SECONDS": "10",
}
TABLES = """
SELECT count(*) FILTER (WHERE relname LIKE 'tasks\\_%') AS partitions,
    sum(n_dead_tup)::bigint AS dead, sum(n_live_tup)::bigint AS live,
    sum(pg_total_relation_size(relid))::bigint AS bytes
FROM pg_stat_user_tables WHERE schemaname = 'executor'
"""
TASKS = """
SELECT count(*) AS tasks, count(*) FILTER (WHERE ended_at IS NULL) AS unfinished,
    count(*) FILTER (WHERE state = 'FAILED') AS failed, min(created_at)::text AS oldest
FROM executor.tasks
"""


@dataclass
class Samples:
    """What was seen, and when, in minutes from the start."""

    minutes: list[float] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)

    def add(self, minute: float, values: dict[str, float]) -> None:
        self.minutes.append(minute)
        for name, value in values.items():
            self.series.setdefault(name, []).append(value)

    def slopes(self) -> dict[str, float]:
        """By how much each figure grows in a minute, over the second half."""
        half = len(self.minutes) // 2
        return {
            name: round(statistics.linear_regression(self.minutes[half:], values[half:]).slope, 2)
            for name, values in self.series.items()
            if len(values) == len(self.minutes)
        }

    def summary(self) -> dict[str, dict[str, float]]:
        return {
            name: {"last": round(values[-1], 1), "most": round(max(values), 1)}
            for name, values in self.series.items()
        }


async def load(bench: Bench, rate: int, until: float) -> int:
    """Create tasks evenly until a time; return how many were accepted."""
    request = pb.BatchCreateTasksRequest(
        requests=[pb.CreateTaskRequest(graph=chain(2)) for _ in range(max(1, rate // 10))]
    )
    accepted = 0
    due = time.monotonic()
    while due < until:
        await bench.executor.BatchCreateTasks(request, timeout=MINUTE)
        accepted += len(request.requests)
        due += len(request.requests) / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return accepted


async def watch(bench: Bench, until: float) -> Samples:
    """Look at the record and at the processes until a time."""
    samples = Samples()
    started = time.monotonic()
    while (now := time.monotonic()) < until:
        row = await bench.record.fetchrow(TABLES)
        assert row is not None
        values = {
            "partitions": row["partitions"],
            "dead_rows": row["dead"],
            "live_rows": row["live"],
            "record_mib": row["bytes"] / MEBIBYTE,
        }
        for part in bench.state().parts:
            if part.process is not None and part.name != "postgres":
                values[f"{part.name}_mib"] = (
                    psutil.Process(part.process.pid).memory_info().rss / MEBIBYTE
                )
        samples.add((now - started) / MINUTE, values)
        await asyncio.sleep(SAMPLE_SECONDS)
    return samples


async def soak(minutes: float, rate: int) -> dict[str, Any]:
    """Run a stack for some minutes."""
    os.environ.update(SETTINGS)
    async with stack(2) as bench:
        until = time.monotonic() + minutes * MINUTE
        accepted, samples = await asyncio.gather(load(bench, rate, until), watch(bench, until))
        row = await bench.record.fetchrow(TASKS)
        assert row is not None
        return {
            "minutes": minutes,
            "accepted": accepted,
            "tasks_per_s": round(accepted / minutes / MINUTE, 1),
            "left": dict(row),
            "figures": samples.summary(),
            "per_minute": samples.slopes(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--tasks-per-second", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(uvloop.run(soak(options.minutes, options.tasks_per_second)), indent=2))


if __name__ == "__main__":
    main()
