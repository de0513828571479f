"""A cache of answers: bounded, the least recently used goes first, one flight per key."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stepwire.errors import Reason, StepwireError

V = TypeVar("V")

# What an entry takes beside its value: key, dictionary slot, objects.
_ENTRY_BYTES = 256


@dataclass(slots=True)
class _Flight(Generic[V]):
    """An answer that is being made, and how many wait for it."""

    task: "asyncio.Task[V]"
    waiting: int = 0


class ResponseCache(Generic[V]):
    """Answers by the digest of what was asked. To be used from one event loop.

    Equal questions that come while the first is being answered wait for that answer. If
    the caller is cancelled who began it, it goes on for the others; if it fails because of
    that caller's deadline, the next one begins anew.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        """Starts empty.

        Args:
            max_bytes: Of all values and a little for each entry.
            size_of: The bytes of a value.
        """
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._entries: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._flights: dict[bytes, _Flight[V]] = {}
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the entries take."""
        return self._bytes

    def get(self, key: bytes) -> V | None:
        """Returns an answer that is there."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    async def fly(self, key: bytes, make: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """Returns an answer that is not there, and whether another call made it.

        Raises:
            StepwireError: What `make` raised.
        """
        while True:
            flight = self._flights.get(key)
            joined = flight is not None
            if flight is None:
                flight = self._begin(key, make)
            flight.waiting += 1
            try:
                return await asyncio.shield(flight.task), joined
            except StepwireError as error:
                if not joined or error.reason is not Reason.DEADLINE_EXCEEDED:
                    raise
            finally:
                flight.waiting -= 1
                if not flight.waiting and not flight.task.done():
                    # Nobody may join it any more.
                    del self._flights[key]
                    flight.task.cancel()

    def _begin(self, key: bytes, make: Callable[[], Awaitable[V]]) -> _Flight[V]:
        async def work() -> V:
            value = await make()
            self._put(key, value)
            return value

        flight = _Flight(asyncio.create_task(work(), name="cached answer"))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._landed(key, flight))
        return flight

    def _landed(self, key: bytes, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _put(self, key: bytes, value: V) -> None:
        size = self._size_of(value) + len(key) + _ENTRY_BYTES
        if size > self._max_bytes:
            return
        self._entries[key] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed
