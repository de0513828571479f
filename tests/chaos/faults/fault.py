"""What a fault is: it happens, and shows that it has."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.cluster import Cluster

# Much longer than on an idle machine: a worker that was killed twice must have come back,
# and have got steps, on one with two busy cores. Nobody waits that long for what happens.
FIRE_SECONDS = 60.0


class NotFiredError(Exception):
    """A fault did not happen: the run proves nothing about it."""


@contextmanager
def or_not_fired(what: str) -> Iterator[None]:
    """Turn a wait in vain into `NotFiredError`."""
    try:
        yield
    except (AssertionError, TimeoutError) as error:
        raise NotFiredError(f"{what}: {error}") from error


class Fault(ABC):
    """Something that goes wrong once.

    Attributes:
        alone: whether no fault of the servers may happen in the same run.
    """

    alone: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """How a report names it."""

    @abstractmethod
    async def strike(self, cluster: Cluster) -> str:
        """Make it happen, or wait until it has; return what was seen of it.

        Raises:
            NotFiredError: it did not happen.
        """
