"""What breakers need from outside, to be shared between instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from router_svc.breakers.records import BreakerKey, Cause


@dataclass(frozen=True, slots=True)
class SharedBreaker:
    """A breaker as the record has it.

    Attributes:
        key: Its name.
        version: Rises with each change.
        is_open: Whether it is open.
        seconds_left: Until probes are let through; None for not before a reset.
        cause: Why it is open.
        openings: How often in a row it was opened.
        forced: Whether somebody opened it by hand.
    """

    key: BreakerKey
    version: int
    is_open: bool
    seconds_left: float | None
    cause: Cause
    openings: int
    forced: bool


class BreakerStore(Protocol):
    """Keeps the state of breakers for all instances."""

    async def put(self, breaker: SharedBreaker, *, by_hand: bool) -> int:
        """Writes a change, and returns its version.

        What somebody has opened, for a time that is not over, is changed by hand only: the
        version is 0 then, and nothing is written.
        """
        ...

    async def read(self) -> Sequence[SharedBreaker]:
        """Returns all that are open or were closed lately."""
        ...

    async def forget(self, *, older_than_seconds: float) -> None:
        """Removes those that were closed long ago."""
        ...
