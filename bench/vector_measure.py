"""One run of one query by some clients at once, and medians over runs."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench.vector_data import QUERIES

Found = list[str]
Query = Callable[[int], Awaitable[Found]]

WARM_SECONDS = 0.5


@dataclass
class Measured:
    """What one run has shown; recall is None where there is no truth to compare with."""

    qps: float
    p50_ms: float
    p99_ms: float
    recall: float
    fewest: int


async def measure(
    query: Query, truth: list[set[str]] | None, *, clients: int, seconds: float
) -> Measured:
    """Search for some seconds, after half a second of warming."""
    times: list[float] = []
    found: dict[int, Found] = {}

    async def work(first: int, end: float, times: list[float]) -> None:
        number = first
        while time.perf_counter() < end:
            started = time.perf_counter()
            found[number] = await query(number)
            times.append(time.perf_counter() - started)
            number = (number + clients) % QUERIES

    async def all_work(seconds: float, times: list[float]) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(work(client, end, times) for client in range(clients)))

    await all_work(WARM_SECONDS, [])
    started = time.perf_counter()
    await all_work(seconds, times)
    elapsed = time.perf_counter() - started
    recall = 0.0
    if truth is not None:
        hits = sum(len(truth[number] & set(ids)) for number, ids in found.items())
        recall = hits / sum(len(truth[number]) for number in found)
    times.sort()
    return Measured(
        qps=len(times) / elapsed,
        p50_ms=statistics.median(times) * 1e3,
        p99_ms=times[int(len(times) * 0.99)] * 1e3,
        recall=recall,
        fewest=min(len(ids) for ids in found.values()),
    )


class Figures(dict[str, Any]):
    """Medians by key, with the spread of each: (most - least) / median."""

    def __init__(self) -> None:
        super().__init__(spread={})

    def median(self, key: str, values: list[float], digits: int = 3) -> float:
        middle = statistics.median(values)
        self[key] = round(middle, digits)
        self["spread"][key] = round((max(values) - min(values)) / middle, 3) if middle else 0.0
        return middle
