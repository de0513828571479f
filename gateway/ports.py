"""What the companion needs of the services behind the gateway."""

from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Protocol


class Status(Enum):
    """Whether a service takes calls."""

    SERVING = auto()
    NOT_SERVING = auto()


class Owner(Protocol):
    """A process that knows the health of its own services."""

    async def check(self, service: str) -> Status:
        """Returns a service's health now; a process that does not answer is not serving."""
        ...

    def watch(self, service: str) -> AsyncIterator[Status]:
        """Yields a service's health, first as it is and then with each change.

        Never ends by itself: a process that goes away is not serving until it is back.
        """
        ...
