"""How many steps a worker process holds at once: the back-pressure on its messages."""

import threading
import time
from collections.abc import Callable


class Slots:
    """Counts steps in flight. Taken by actor threads, freed by the event loop."""

    def __init__(self, capacity: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._used = 0
        self._idle_since = clock()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def capacity(self) -> int:
        """Most steps in flight."""
        return self._capacity

    @property
    def used(self) -> int:
        """Steps in flight."""
        return self._used

    @property
    def idle_seconds(self) -> float:
        """For how long nothing has been in flight; 0 while something is."""
        with self._changed:
            return 0.0 if self._used else self._clock() - self._idle_since

    def take(self, count: int) -> bool:
        """Block until there is room, then count `count` steps as in flight.

        A bundle larger than the room that is left may exceed the capacity: otherwise one
        larger than the capacity would wait for ever.

        Returns:
            False, without counting anything, once the slots are closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used < self._capacity)
            if self._closed:
                return False
            self._used += count
            return True

    def add(self, count: int) -> None:
        """Count `count` steps more, whether there is room or not."""
        with self._changed:
            self._used += count

    def free(self, count: int) -> None:
        """Count `count` steps less."""
        with self._changed:
            self._used -= count
            self._idle_since = self._clock()
            self._changed.notify_all()

    def close(self) -> None:
        """Let no one wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
