"""Learns what other instances invalidated, and clears the record of what has expired."""

import asyncio
import logging
from typing import Final

from router_svc.cache.invalidations import REMEMBERED
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.ports import AnswerStore

_logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
_PURGE_EVERY: Final = 30
_PURGED_AT_ONCE: Final = 1_000


async def catch_up(memory: MemoryAnswers, store: AnswerStore) -> None:
    """Drops from memory what was invalidated anywhere."""
    begun = memory.known.now()
    while found := await store.invalidations(after=memory.seen):
        for each in found:
            memory.invalidate(each)
    memory.known.caught_up(begun)


class Sharing:
    """Keeps the memory of this instance and the record alike.

    Args:
        memory: The memory.
        store: The record.
        most: Answers in the record; more of them go, those first that expire first.
        ttl_seconds: For how long answers are kept.
    """

    def __init__(
        self, memory: MemoryAnswers, store: AnswerStore, *, most: int, ttl_seconds: float
    ) -> None:
        self._memory = memory
        self._store = store
        self._most = most
        self._ttl_seconds = ttl_seconds

    async def begin(self) -> None:
        """Takes note of what was invalidated before this instance knew anything."""
        begun = self._memory.known.now()
        for each in await self._store.newest_invalidations(REMEMBERED):
            self._memory.invalidate(each)
        self._memory.known.caught_up(begun)

    async def run(self) -> None:
        """Goes on until cancelled."""
        rounds, failing = 0, False
        while True:
            try:
                await catch_up(self._memory, self._store)
                if rounds % _PURGE_EVERY == 0:
                    await self.purge()
                failing = False
            except Exception:
                # Told once, not every second of an outage.
                if not failing:
                    _logger.exception("the cache does not learn of invalidations now")
                failing = True
            rounds += 1
            await asyncio.sleep(EVERY_SECONDS)

    async def purge(self) -> None:
        """Removes what has expired from the record."""
        gone = _PURGED_AT_ONCE
        while gone >= _PURGED_AT_ONCE:
            gone = await self._store.purge(
                most=self._most, ttl_seconds=self._ttl_seconds, limit=_PURGED_AT_ONCE
            )
