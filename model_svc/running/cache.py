"""A cache of answers: bounded, the least recently used goes first, one flight per key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stepwire.errors import Reason, StepwireError
from stepwire.flights import Flight, Flights
from stepwire.lru import LruCache

V = TypeVar("V")


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
        self._size_of = size_of
        self._entries = LruCache[bytes, V](max_bytes)
        self._flights = Flights[Flight[V]]()

    @property
    def size_bytes(self) -> int:
        """What the entries take."""
        return self._entries.size_bytes

    def get(self, key: bytes) -> V | None:
        """Returns an answer that is there."""
        return self._entries.get(key)

    async def fly(self, key: bytes, make: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """Returns an answer that is not there, and whether another call made it.

        Raises:
            StepwireError: What `make` raised.
        """

        async def work() -> V:
            value = await make()
            self._entries.put(key, value, size_bytes=self._size_of(value) + len(key))
            return value

        def begin() -> Flight[V]:
            return Flight(work(), name="cached answer")

        while True:
            with self._flights.join(key, begin) as (flight, joined):
                try:
                    return await asyncio.shield(flight.task), joined
                except StepwireError as error:
                    if not joined or error.reason is not Reason.DEADLINE_EXCEEDED:
                        raise
