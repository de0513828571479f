"""What runs a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Executed(NamedTuple):
    """The results of a batch, one per payload, and the device that it ran on."""

    results: Sequence[Any]
    device: str


class RefusedError(Exception):
    """The payloads of a batch do not fit the model; says why."""


class Execute(Protocol):
    """Runs the payloads of one batch."""

    async def __call__(self, payloads: Sequence[Any], *, alone: bool) -> Executed:
        """Returns one result per payload.

        Args:
            payloads: What runs together.
            alone: Whether nothing else runs on the device, so that the batch may have all of
                it.

        Raises:
            RefusedError: One of the payloads does not fit; if there are several, they are
                run one by one, so that the others do not suffer.
        """
