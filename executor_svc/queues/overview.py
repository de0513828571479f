"""How busy all queues are, counted no more often than it is worth."""

import asyncio
import time
from collections.abc import Callable

from executor_svc.queues.ports import QueueStore
from executor_svc.queues.records import Snapshot

FRESH_SECONDS = 1.0
# A snapshot stays fresh for so many times what it took: with millions of steps in the
# queues, counting takes a twentieth of one connection's time at most.
FRESH_TIMES = 20


class Overview:
    """Takes snapshots of the queues and keeps the newest one."""

    def __init__(self, store: QueueStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._taking = asyncio.Lock()
        self._newest: Snapshot | None = None
        self._fresh_until = 0.0
        # Changes made, and how many of them the newest snapshot knows of.
        self._changes = 0
        self._known_changes = 0

    def outdate(self) -> None:
        """Have the next `look` take a snapshot: something was changed just now."""
        self._changes += 1

    async def look(self) -> Snapshot:
        """Return a snapshot that is fresh; all who ask meanwhile share it.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres does not answer.
        """
        async with self._taking:
            if self._newest is None or not self._is_fresh():
                began, changes = self._clock(), self._changes
                self._newest = await self._store.snapshot()
                self._known_changes = changes
                took = self._clock() - began
                self._fresh_until = began + took + max(FRESH_SECONDS, FRESH_TIMES * took)
            return self._newest

    def _is_fresh(self) -> bool:
        return self._known_changes == self._changes and self._clock() < self._fresh_until
