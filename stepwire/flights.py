"""Work that several wait for: who asks for the same while it is under way joins it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Flight(Generic[V]):
    """Work under way, and how many wait for it. Begins at once, as a task of its own."""

    def __init__(self, work: Coroutine[Any, Any, V], *, name: str) -> None:
        self.task = asyncio.create_task(work, name=name)
        self.waiting = 0


F = TypeVar("F", bound=Flight[Any])


class Flights(Generic[F]):
    """The flights under way, by the key of what was asked. To be used from one event loop.

    A flight goes on when the caller is cancelled who began it, as long as others wait, and
    is cancelled when nobody does. It runs in the context of that caller, deadline included:
    who joined one that ended by a deadline should ask anew.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, F] = {}

    def __len__(self) -> int:
        return len(self._flights)

    @contextmanager
    def join(self, key: Hashable, begin: Callable[[], F]) -> Iterator[tuple[F, bool]]:
        """Yields the flight of a key, and whether it was under way; `begin` begins one."""
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = begin()
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        flight.waiting += 1
        try:
            yield flight, joined
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Nobody may join it any more.
                self._remove(key, flight)
                flight.task.cancel()

    def _landed(self, key: Hashable, flight: F) -> None:
        self._remove(key, flight)
        if not flight.task.cancelled():
            # Whoever waits has it; an error that nobody waits for is nobody's.
            flight.task.exception()

    def _remove(self, key: Hashable, flight: F) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
