"""Answers in Redis: between the memory of each instance and the record of all.

Redis learns of no invalidation, and may be away when one is made. Each answer there has
the mark of the last invalidation that it is known to have outlived; whoever reads it knows
all invalidations since, or does without it. So an answer that was invalidated lies there
until it expires, and is never given.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from router_svc.cache.backlog import Backlog
from router_svc.cache.invalidations import Invalidations
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import Keeping, PassingStore
from router_svc.cache.records import Ask, Marked
from stepwire.batcher import Batcher

REDIS: Final = "redis"
"""What it is called in metrics and in the log."""
MAX_LOOKUPS: Final = 32
"""Requests whose answers are looked up together."""
MAX_WAITING: Final = 1_000
WRITE_SECONDS: Final = 1.0
"""Longest wait for a batch to be written; no request waits for it."""


class Between:
    """Finds answers in Redis, and writes them there behind the calls.

    Args:
        store: Redis.
        known: What was invalidated.
        metrics: Counts failures.
        deadline_seconds: Longest wait of a request.
        ttl_seconds: For how long answers are kept.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: PassingStore,
        known: Invalidations,
        metrics: CacheMetrics,
        *,
        deadline_seconds: float,
        ttl_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._known = known
        # Apart, since one that is full is still read.
        self._reading, self._writing = Part(REDIS, clock), Part(f"{REDIS}_writer", clock)
        self._metrics = metrics
        self._deadline_seconds = deadline_seconds
        self._ttl_seconds = ttl_seconds
        self._lookups = Batcher[Sequence[bytes], Sequence[Marked]](
            "answers in Redis", self._look_up, max_batch=MAX_LOOKUPS, max_waiting=MAX_WAITING
        )
        self.backlog = Backlog(self._write)

    @property
    def why(self) -> str:
        """Why it cannot be used; empty when it can, as far as is known."""
        return self._reading.why or self._writing.why

    async def find(self, keys: Sequence[bytes], ask: Ask) -> Sequence[Keeping]:
        """Returns those that are there, with the last invalidation that each outlived.

        None is an error, and Redis that is away is counted.
        """
        # Who does not know what was invalidated lately cannot tell what is still good.
        if not self._known.is_current:
            return ()
        part = self._reading
        if part.rests:
            self._metrics.failed(ask.tenant_id, part.name)
            return ()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                read = await self._lookups.submit(keys)
        except Exception as error:  # noqa: BLE001 - whatever Redis says, the request goes on
            part.failed(str(error))
            self._metrics.failed(ask.tenant_id, part.name)
            return ()
        part.answered()
        return [
            Keeping(each.kept, number)
            for each in read
            if each.kept.tenant_id == ask.tenant_id
            and (number := self._known.number_of(each.mark)) is not None
        ]

    def keep(self, keeping: Keeping) -> None:
        """Takes an answer. Returns at once, and never raises."""
        if self._writing.rests or not self.backlog.add(keeping):
            self._metrics.failed(keeping.kept.tenant_id, self._writing.name)

    async def _look_up(self, asked: Sequence[Sequence[bytes]]) -> Sequence[Sequence[Marked]]:
        wanted = dict.fromkeys(key for keys in asked for key in keys)
        # For as long as the store has patience: a request that does not wait for it leaves a
        # connection that is made, for those after it.
        found = {each.kept.key: each for each in await self._store.find(list(wanted))}
        return [[found[key] for key in keys if key in found] for keys in asked]

    async def _write(self, batch: Sequence[Keeping]) -> None:
        mark, part = self._known.mark, self._writing
        answers = [
            Marked(each.kept, mark)
            for each in batch
            if mark and not self._known.removes(each.kept, since=each.seen)
        ]
        if not answers:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._store.keep(answers, ttl_seconds=self._ttl_seconds)
        except Exception as error:  # noqa: BLE001 - and the next answers are written
            part.failed(str(error))
            for each in answers:
                self._metrics.failed(each.kept.tenant_id, part.name)
        else:
            part.answered()
