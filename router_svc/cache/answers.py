"""Finds kept answers by key: in memory, in Redis if there is one, in the record of all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from router_svc.cache.between import REDIS, Between
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import AnswerStore, Keeping
from router_svc.cache.records import Ask, Kept
from stepwire.errors import StepwireError

_MEMORY: Final = "memory"


@dataclass(frozen=True, slots=True)
class Record:
    """The record, and whether it answers."""

    store: AnswerStore
    part: Part


class Answers:
    """Kept answers.

    Args:
        memory: Those of this process.
        between: Those in Redis; None without one.
        record: Those of all instances; None without a database.
        metrics: Counts what was found, and failures.
        deadline_seconds: Longest wait for the record.
    """

    def __init__(
        self,
        memory: MemoryAnswers,
        between: Between | None,
        record: Record | None,
        metrics: CacheMetrics,
        *,
        deadline_seconds: float,
    ) -> None:
        self._memory = memory
        self._between = between
        self._record = record
        self._metrics = metrics
        self._deadline_seconds = deadline_seconds

    def recall(self, ask: Ask) -> Kept | None:
        """Returns the answer, if it is in memory."""
        return next(iter(self._recalled([ask.key], ask)), None)

    async def find(self, ask: Ask) -> Kept | None:
        """Returns the answer, wherever it is; it is in memory then."""
        return (await self.find_all([ask.key], ask)).get(ask.key)

    async def find_all(self, keys: Sequence[bytes], ask: Ask) -> dict[bytes, Kept]:
        """Returns those of some answers that are there, by key."""
        found: dict[bytes, Kept] = {kept.key: kept for kept in self._recalled(keys, ask)}
        for read in (self._from_redis, self._from_record):
            left = [key for key in keys if key not in found]
            if left:
                found |= {kept.key: kept for kept in await read(left, ask)}
        return found

    def keep(self, kept: Kept, *, seen: int) -> bool:
        """Keeps a new answer in memory, and in Redis.

        Args:
            kept: The answer.
            seen: The last invalidation that was known when it was begun.

        Returns:
            Whether it may be in the record too: it is not too long, nor was it invalidated
            while it was made.
        """
        may = self._memory.put(kept, seen=seen)
        if may and self._between is not None:
            self._between.keep(Keeping(kept, seen))
        return may

    def _recalled(self, keys: Sequence[bytes], ask: Ask) -> Sequence[Kept]:
        there = [self._memory.get(key, max_age_seconds=ask.max_age_seconds) for key in keys]
        return self._counted([kept for kept in there if kept is not None], _MEMORY, ask)

    async def _from_redis(self, keys: Sequence[bytes], ask: Ask) -> Sequence[Kept]:
        if self._between is None:
            return ()
        read = await self._between.find(keys, ask)
        return self._taken(read, REDIS, ask)

    async def _from_record(self, keys: Sequence[bytes], ask: Ask) -> Sequence[Kept]:
        if self._record is None:
            return ()
        store, part = self._record.store, self._record.part
        if part.rests:
            self._metrics.failed(ask.tenant_id, part.name)
            return ()
        seen = self._memory.seen
        try:
            async with asyncio.timeout(self._deadline_seconds):
                read = await store.find(keys, tenant_id=ask.tenant_id)
        except (StepwireError, TimeoutError) as error:
            part.failed(str(error))
            self._metrics.failed(ask.tenant_id, part.name)
            return ()
        part.answered()
        given = self._taken([Keeping(kept, seen) for kept in read], part.name, ask)
        if self._between is not None:
            # It has lost them, or never had them.
            for kept in given:
                self._between.keep(Keeping(kept, seen))
        return given

    def _taken(self, read: Sequence[Keeping], part: str, ask: Ask) -> Sequence[Kept]:
        """Takes answers into memory; returns those that may be given."""
        # Not those that were invalidated on the way.
        there = [each.kept for each in read if self._memory.put(each.kept, seen=each.seen)]
        young = [kept for kept in there if self._memory.age(kept) < ask.max_age_seconds]
        return self._counted(young, part, ask)

    def _counted(self, found: Sequence[Kept], part: str, ask: Ask) -> Sequence[Kept]:
        for _ in found:
            self._metrics.found(ask.tenant_id, part)
        return found
