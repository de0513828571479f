"""What keeping to rates needs of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish for a share of a rate.

    Attributes:
        name: Names the rate.
        limit: Units that may be given in a minute, by all instances together.
        wanted: Units wanted.
        least: Fewer than that are of no use.
    """

    name: str
    limit: int
    wanted: int
    least: int


@dataclass(frozen=True, slots=True)
class Given:
    """What was given.

    Attributes:
        units: How many; 0 when less than the least was free.
        second: In which second it was given, by the giver's clock.
        wait_seconds: When nothing was given, how long until the least will be free.
    """

    units: int
    second: int
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Back:
    """Units that were given in a second and are not wanted; below 0, used beyond what was."""

    name: str
    second: int
    units: int


class RateStore(Protocol):
    """Gives out of rates.

    In any minute and the time for which what was given may be kept, no more is given than
    the limit, but for what is used beyond what was given.
    """

    async def take(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        """Puts back what is not wanted, then gives; each rate is named by one ask at most.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...
