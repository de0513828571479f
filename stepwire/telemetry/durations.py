"""Histograms of durations for hot paths.

Adding to one of OpenTelemetry's histograms takes some 10 µs, as much as all else that
surrounds a good call; adding to one of these takes less than one. They are served to
Prometheus beside OpenTelemetry's instruments, under the names that these would have.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_all: dict[str, "Durations"] = {}


@dataclass(slots=True)
class Cell:
    """What was recorded for one combination of attributes' values.

    Attributes:
        counts: How many durations per bucket, the last one without upper bound.
        total_seconds: Their sum.
    """

    counts: list[int]
    total_seconds: float = 0.0


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

    def record(self, seconds: float, *values: str) -> None:
        """Adds a duration.

        Args:
            seconds: How long it took.
            values: One for each attribute; "" where it has none.
        """
        cell = self._cells.get(values)
        if cell is None:
            assert len(values) == len(self.attributes), f"{self.name}: one value per attribute"
            cell = self._cells[values] = Cell([0] * (len(self.bounds) + 1))
        cell.counts[bisect_left(self.bounds, seconds)] += 1
        cell.total_seconds += seconds

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
