"""What keeping to limits needs of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


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


@dataclass(frozen=True, slots=True)
class Claim:
    """What an instance has of one model's slots, and wants.

    Attributes:
        model: The model.
        held: What it keeps of what it was given.
        wanted: How many more it wants.
        most: The model's concurrency, by its catalogue.
        keeps_seconds: After so long without a sign of life, none of its calls is under way.
    """

    model: str
    held: int
    wanted: int
    most: int
    keeps_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What an instance has of one model's slots now, and how that model stands.

    Attributes:
        model: The model.
        held: What it holds.
        most: The lowest concurrency that any instance goes by.
        free: What is left of it; below 0 when more is held than that.
        elsewhere: What other instances want.
        claimants: Instances that hold or want any, this one among them.
    """

    model: str
    held: int
    most: int
    free: int
    elsewhere: int
    claimants: int


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life of another instance.

    Attributes:
        session_id: The instance.
        beat: Another one with each sign.
        keeps_seconds: After so long without another, some of its slots are free.
    """

    session_id: UUID
    beat: int
    keeps_seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """That an instance has given no sign of life after its last one for so long."""

    session_id: UUID
    beat: int
    seconds: float


class SlotStore(Protocol):
    """Has the slots of all models.

    Of no model do all instances together hold more than the lowest limit that any of them
    goes by, but for what they held when it was lowered.
    """

    async def hold(
        self, session_id: UUID, beat: int, claims: Sequence[Claim]
    ) -> Mapping[str, Grant]:
        """Keeps of an instance's slots what it claims, and gives it what it wants and is free.

        Args:
            session_id: The instance.
            beat: Larger than ever before.
            claims: All that it holds and wants; each model once.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def others(self, session_id: UUID) -> Sequence[Sign]:
        """Returns the last signs of life of all others that have any slots, or want some.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def free(self, silences: Sequence[Silence]) -> Mapping[str, int]:
        """Frees what was held by those that have been silent for long enough, and are still.

        Returns:
            How many slots of which models.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...
