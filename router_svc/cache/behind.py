"""Writes down answers behind the calls."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from router_svc.cache.answers import Record
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import Keeping, Neighbours
from router_svc.cache.records import Embedded, Kept
from stepwire.call import call_context
from stepwire.errors import StepwireError

_logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1_000
"""Answers that wait to be written; more are kept in memory only."""
MAX_BATCH: Final = 64
LINGER_SECONDS: Final = 0.05
DRAIN_SECONDS: Final = 5.0


class Behind:
    """Writes answers to the record, and then their questions where they can be found.

    Args:
        record: Where answers go; None without a database.
        neighbours: Where questions go; None without a vector service.
        meaning: Whether questions can be written.
        metrics: Counts what could not be written.
        ttl_seconds: For how long they are kept.
    """

    def __init__(
        self,
        record: Record | None,
        neighbours: Neighbours | None,
        meaning: Part,
        metrics: CacheMetrics,
        *,
        ttl_seconds: float,
    ) -> None:
        self._record = record
        self._neighbours = neighbours
        self._meaning = meaning
        self._metrics = metrics
        self._ttl_seconds = ttl_seconds
        self._waiting: deque[Keeping] = deque()
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()

    def keep(self, keeping: Keeping) -> None:
        """Takes an answer. Returns at once, and never raises."""
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.failed(keeping.kept.tenant_id, "writer")
            return
        self._waiting.append(keeping)
        self._news.set()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._news.wait()
            # Others come meanwhile, and are written together.
            await asyncio.sleep(LINGER_SECONDS)
            self._news.clear()
            await self.flush()

    async def drain(self) -> None:
        """Writes what waits at the end; not for ever, when somebody is away."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.flush()
        except TimeoutError:
            _logger.warning("answers were not kept", extra={"answers": len(self._waiting)})

    async def flush(self) -> None:
        """Writes all that waits. What cannot be written is counted, and in memory only."""
        async with self._writing:
            while self._waiting:
                count = min(MAX_BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                if await self._write(batch):
                    await self._show(batch)

    async def _write(self, batch: Sequence[Keeping]) -> bool:
        if self._record is None:
            return True
        # The last of each: one statement writes a key once.
        answers = list({each.kept.key: each for each in batch}.values())
        try:
            await self._record.store.keep(answers, ttl_seconds=self._ttl_seconds)
        except StepwireError as error:
            self._record.part.failed(str(error))
        except Exception:
            # Whatever one of them holds, the next ones are written.
            _logger.exception("answers cannot be kept")
        else:
            return True
        for each in answers:
            self._metrics.failed(each.kept.tenant_id, self._record.part.name)
        return False

    async def _show(self, batch: Sequence[Keeping]) -> None:
        """Makes questions ones to be found, those of a tenant together."""
        groups: dict[tuple[str, str], list[tuple[Kept, Embedded]]] = {}
        for each in batch:
            if each.meaning is not None:
                group = groups.setdefault((each.kept.tenant_id, each.meaning.space), [])
                group.append((each.kept, each.meaning))
        for (tenant_id, _), questions in groups.items():
            if self._neighbours is None or self._meaning.rests:
                return
            try:
                with call_context(tenant_id=tenant_id):
                    await self._neighbours.add(questions, ttl_seconds=self._ttl_seconds)
            except ConnectionError as error:
                self._meaning.failed(str(error))
                self._metrics.failed(tenant_id, self._meaning.name)
