"""Finds kept answers by key: first in memory, then in the record that all instances share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import AnswerStore
from router_svc.cache.records import Ask, Kept
from stepwire.errors import StepwireError


@dataclass(frozen=True, slots=True)
class Record:
    """The record, and whether it answers."""

    store: AnswerStore
    part: Part


class Answers:
    """Kept answers.

    Args:
        memory: Those of this process.
        record: Those of all instances; None without a database.
        metrics: Counts failures.
        deadline_seconds: Longest wait for the record.
    """

    def __init__(
        self,
        memory: MemoryAnswers,
        record: Record | None,
        metrics: CacheMetrics,
        *,
        deadline_seconds: float,
    ) -> None:
        self._memory = memory
        self._record = record
        self._metrics = metrics
        self._deadline_seconds = deadline_seconds

    def recall(self, ask: Ask) -> Kept | None:
        """Returns the answer, if it is in memory."""
        return self._memory.get(ask.key, max_age_seconds=ask.max_age_seconds)

    async def find(self, ask: Ask) -> Kept | None:
        """Returns the answer, wherever it is; it is in memory then."""
        kept = self.recall(ask)
        if kept is not None:
            return kept
        return next(iter(await self._read([ask.key], ask)), None)

    async def find_all(self, keys: Sequence[bytes], ask: Ask) -> dict[bytes, Kept]:
        """Returns those of some answers that are there, by key."""
        found: dict[bytes, Kept] = {}
        for key in keys:
            kept = self._memory.get(key, max_age_seconds=ask.max_age_seconds)
            if kept is not None:
                found[key] = kept
        left = [key for key in keys if key not in found]
        if left:
            found |= {kept.key: kept for kept in await self._read(left, ask)}
        return found

    async def _read(self, keys: Sequence[bytes], ask: Ask) -> Sequence[Kept]:
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
        # Not those that were invalidated on the way.
        there = [kept for kept in read if self._memory.put(kept, seen=seen)]
        return [kept for kept in there if self._memory.age(kept) < ask.max_age_seconds]
