"""Which partitions there should be: spans of time, as ranges of task ids. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from executor_svc.tasks.task_ids import created_at, first_id_at

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Spans behind the current one that have partitions before they begin.
SPANS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Partition:
    """The ids from `lower` to before `upper`; `name` is that of their time."""

    name: str
    lower: UUID
    upper: UUID


def wanted(now: datetime, span: timedelta, existing: Sequence[Partition]) -> Iterator[Partition]:
    """Return the partitions that are missing for the current span and those ahead.

    Spans are counted from 1970. Where partitions of spans of another length are in the
    way, a new one is as long as they leave room for.
    """
    first = _EPOCH + (now - _EPOCH) // span * span
    for place in range(SPANS_AHEAD + 1):
        start = first + place * span
        lower, upper = first_id_at(start), first_id_at(start + span)
        for other in existing:
            if other.lower <= lower < other.upper:
                lower = other.upper
            elif lower < other.lower < upper:
                upper = other.lower
        if lower < upper:
            yield Partition(created_at(lower).strftime("%Y%m%d_%H%M%S"), lower, upper)


def outdated(cutoff: datetime, existing: Sequence[Partition]) -> Sequence[Partition]:
    """Return the partitions of tasks that were all made before `cutoff`, in order."""
    end = first_id_at(cutoff)
    return [partition for partition in existing if partition.upper <= end]


def first_partitioned(cutoff: datetime, existing: Sequence[Partition]) -> UUID:
    """Return the id up to which old tasks can be in the default partition alone."""
    return min([first_id_at(cutoff), *(partition.lower for partition in existing)])
