"""A gauge of what runs, outside of Stepwire: attempts write into a file while they live.

Every line is one sign of life: the time by the machine's monotonic clock, which all
processes share, the attempt and the process.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwire.sdk.functions import StepContext, step
from tests.integration.executor_svc.executor_functions import exists

BEAT_SECONDS = 0.005


@step("test.gauge")
async def gauge(value: dict[str, Any], context: StepContext) -> str:
    """Live for `seconds`, and until the file `until` is there, giving signs of life."""
    path, end = Path(value["path"]), time.monotonic() + value["seconds"]
    line = f"{value['key']} {context.idempotency_key} {context.attempt} {os.getpid()}"
    with path.open("a", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230
        while True:
            now = time.monotonic()
            over = now >= end and exists(value["until"])
            file.write(f"{now:.6f} {line} {'end' if over else 'live'}\n")
            if over:
                return "done"
            await asyncio.sleep(BEAT_SECONDS)


@dataclass(frozen=True, slots=True)
class Life:
    """An attempt as the gauge has seen it.

    Attributes:
        ended: whether it came to its end by itself.
    """

    key: str
    step: str
    attempt: int
    process: int
    begin: float
    end: float
    ended: bool


def read_lives(path: Path) -> list[Life]:
    """Read what was written so far; a last line that is being written is passed over."""
    beats: dict[tuple[str, str, int, int], list[tuple[float, bool]]] = defaultdict(list)
    text = path.read_text("utf-8") if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        moment, key, step_, attempt, process, what = line.split()
        beats[key, step_, int(attempt), int(process)].append((float(moment), what == "end"))
    return [
        Life(*attempt, begin=seen[0][0], end=seen[-1][0], ended=seen[-1][1])
        for attempt, seen in beats.items()
    ]


def most_at_once(lives: Sequence[Life]) -> int:
    """Return how many attempts lived at the same time at most.

    One lives from its first sign of life to its last: also while its process was stopped,
    if it gave one more afterwards.
    """
    changes = sorted(
        (moment, by) for life in lives for moment, by in ((life.begin, 1), (life.end, -1))
    )
    living = most = 0
    for _, by in changes:
        living += by
        most = max(most, living)
    return most


def rate_excess(
    lives: Sequence[Life], *, burst: int, per_second: float, late_seconds: float
) -> float:
    """Return by how many starts the worst span of time exceeds what a rate allows; 0 for none.

    `late_seconds` is how late a start may come and yet count for its own time.
    """
    starts = sorted(life.begin for life in lives)
    worst = 0.0
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            allowed = burst + per_second * (starts[last] - begin + late_seconds)
            worst = max(worst, last - first + 1 - allowed)
    return worst
