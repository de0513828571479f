"""Histograms of durations for hot paths.

Adding to one of OpenTelemetry's histograms takes some 10 µs, as much as all else that
surrounds a good call; adding to one of these takes less than one. They are served to
Prometheus beside OpenTelemetry's instruments, under the names that these would have.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_all: dict[str, "Durations"] = {}


@dataclass(frozen=True, slots=True)
class Example:
    """A duration and the trace that shows where it went.

    Attributes:
        trace_id: 32 hex digits.
        seconds: The duration.
        at: When it ended, in seconds since 1970.
    """

    trace_id: str
    seconds: float
    at: float


@dataclass(slots=True)
class Cell:
    """What was recorded for one combination of attributes' values.

    Attributes:
        counts: How many durations per bucket, the last one without upper bound.
        total_seconds: Their sum.
        examples: Of buckets, by their place, the newest that had a trace.
    """

    counts: list[int]
    total_seconds: float = 0.0
    examples: dict[int, Example] = field(default_factory=dict)


class Durations:
    """A histogram of durations in seconds, by the values of a few attributes.

    To be recorded to from one thread; it may be read from another one.

    Attributes:
        name: As OpenTelemetry would have it, with dots and without unit.
        description: What is measured.
        attributes: Their names, few, each with few values.
        bounds: Upper bounds of the buckets, each part of its bucket.
    """

    def __init__(
        self, name: str, *, description: str, attributes: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self.name = name
        self.description = description
        self.attributes = tuple(attributes)
        self.bounds = tuple(bounds)
        self._cells: dict[tuple[str, ...], Cell] = {}

    def record(self, seconds: float, *values: str, trace_id: str = "") -> None:
        """Adds a duration.

        Args:
            seconds: How long it took.
            values: One for each attribute; "" where it has none.
            trace_id: The trace that shows it, if that is kept.
        """
        cell = self._cells.get(values)
        if cell is None:
            assert len(values) == len(self.attributes), f"{self.name}: one value per attribute"
            cell = self._cells[values] = Cell([0] * (len(self.bounds) + 1))
        bucket = bisect_left(self.bounds, seconds)
        cell.counts[bucket] += 1
        cell.total_seconds += seconds
        if trace_id:
            cell.examples[bucket] = Example(trace_id, seconds, time.time())

    def show(self, *values: str) -> None:
        """Has a combination of values be there, with 0 durations, before the first.

        A series that begins with its first event shows no growth by it.
        """
        self._cells.setdefault(values, Cell([0] * (len(self.bounds) + 1)))

    def cells(self) -> Sequence[tuple[tuple[str, ...], Cell]]:
        """Returns what was recorded, by the attributes' values."""
        return list(self._cells.items())


def durations(
    name: str, *, description: str, attributes: Sequence[str], bounds: Sequence[float]
) -> Durations:
    """Returns the process's histogram of this name, made if it is the first to be asked for."""
    found = _all.get(name)
    if found is None:
        found = _all[name] = Durations(
            name, description=description, attributes=attributes, bounds=bounds
        )
    return found


def all_durations() -> Iterable[Durations]:
    """Returns all histograms of the process."""
    return list(_all.values())
