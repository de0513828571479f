"""Snapshots take as long as they take, while something moves. Knows the clock of the loop only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stepwire.errors import Reason, StepwireError

# Movements within this share of the time for which nothing may move count as one, so that
# telling of one costs next to nothing.
_GRAIN = 0.01
_RETRY_AFTER = timedelta(seconds=5)


class Side(StrEnum):
    """What a snapshot waits for."""

    CALLER = "caller"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Limits:
    """What snapshots may take.

    Attributes:
        most: How many at a time.
        stall_seconds: For how long nothing may move.
        max_seconds: How long one may take.
    """

    most: int
    stall_seconds: float
    max_seconds: float


class Pace:
    """How one snapshot comes along; made by `Paces.pace`."""

    def __init__(self, limits: Limits, timer: asyncio.Timeout) -> None:
        self._limits = limits
        self._timer = timer
        self._clock = asyncio.get_running_loop().time
        self._moved = self._clock()
        self._end = self._moved + limits.max_seconds
        self._stopped = False
        self._side = Side.POSTGRES
        self._schedule()

    def waits(self, side: Side) -> None:
        """Tell what the next movement depends on."""
        self._side = side
        self.moved()

    def moved(self) -> None:
        """Tell that something moved."""
        now = self._clock()
        if not self._stopped and now - self._moved > self._limits.stall_seconds * _GRAIN:
            self._moved = now
            self._schedule()

    def stop(self) -> None:
        """Cut it off, since the service stops."""
        self._stopped = True
        self._timer.reschedule(self._clock())

    def error(self) -> StepwireError:
        """Return why it was cut off."""
        if self._stopped:
            return StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "this vector service stops; begin again and another one answers",
                metadata={"dependency": "vector"},
            )
        if self._clock() >= self._end:
            limit, seconds = "snapshot_max_seconds", self._limits.max_seconds
            text = f"it took longer than {seconds:g} s"
        else:
            limit, seconds = "snapshot_stall_seconds", self._limits.stall_seconds
            text = f"nothing moved for {seconds:g} s: it waited for the {self._side}"
        return StepwireError(
            Reason.SNAPSHOT_CUT_OFF,
            f"the snapshot was cut off: {text}",
            metadata={"limit": limit, "seconds": f"{seconds:g}", "waited_for": self._side.value},
        )

    def _schedule(self) -> None:
        self._timer.reschedule(min(self._moved + self._limits.stall_seconds, self._end))


class Paces:
    """The snapshots that are under way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._under_way: set[Pace] = set()
        self._stopped = False

    @asynccontextmanager
    async def pace(self) -> AsyncIterator[Pace]:
        """Bound what the block does, in the task that it runs in.

        Raises:
            StepwireError: OVERLOADED before the block if there are as many as may be;
                SNAPSHOT_CUT_OFF, or DEPENDENCY_UNAVAILABLE once `stop` was called.
        """
        if len(self._under_way) >= self._limits.most:
            raise StepwireError(
                Reason.OVERLOADED,
                f"{self._limits.most} snapshots are under way, and no more may be",
                metadata={"limit": "max_snapshots"},
                retry_after=_RETRY_AFTER,
            )
        try:
            async with asyncio.timeout(None) as timer:
                pace = Pace(self._limits, timer)
                self._under_way.add(pace)
                if self._stopped:
                    pace.stop()
                try:
                    yield pace
                finally:
                    self._under_way.discard(pace)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise pace.error() from error

    def stop(self) -> None:
        """Cut off all that are under way, and those that begin."""
        self._stopped = True
        for pace in self._under_way:
            pace.stop()
