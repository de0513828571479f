"""What retention needs of the record."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from executor_svc.retention.spans import Partition


class BusyError(Exception):
    """Locks were not to be had in time; nothing was changed. Worth trying again soon."""


class TooLongError(Exception):
    """It would have kept everybody waiting for too long; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What must outlast a partition: `tasks`, given `marked` others that have a mark.

    All others had ended by `ended`.
    """

    tasks: Sequence[UUID]
    marked: int
    ended: datetime


class Partitions(Protocol):
    """The partitions, for one executor at a time."""

    async def existing(self) -> Sequence[Partition]:
        """Return the partitions but for the default one, oldest first."""

    async def add(self, partition: Partition) -> bool:
        """Make a partition; False if the default one has rows of it.

        Raises:
            BusyError: see there.
            TooLongError: the default one has many rows, all of which are looked at meanwhile.
        """

    async def kept(self, partition: Partition, *, ended: datetime) -> Kept | None:
        """Return which tasks outlast the partition: at least those not ended before `ended`.

        None if they are too many to be moved.
        """

    async def drop(self, partition: Partition, kept: Kept) -> None:
        """Drop a partition; what is kept moves to the default one.

        Raises BusyError and TooLongError.
        """

    async def purge(self, lower: UUID, upper: UUID, *, ended: datetime) -> int:
        """Delete tasks between ids that ended before `ended`; return in how many commits."""

    async def forget(self, lower: UUID, upper: UUID) -> None:
        """Delete what else the record has of tasks between ids that are gone."""

    async def drop_graphs(self, upper: UUID, *, unused: datetime) -> None:
        """Delete graphs not used since `unused` that nothing needs.

        No task with the id `upper` or a later one may have been made with a graph so old.
        """


class RetentionStore(Protocol):
    """Where the partitions are."""

    def alone(self) -> AbstractAsyncContextManager[Partitions | None]:
        """Work on partitions while nobody else does; None when somebody does."""
