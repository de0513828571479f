"""Writes down answers behind the calls."""

import logging
from collections.abc import Sequence

from router_svc.cache.answers import Record
from router_svc.cache.backlog import Backlog
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import Keeping, Neighbours
from router_svc.cache.records import Embedded, Kept
from stepwire.call import call_context
from stepwire.errors import StepwireError

_logger = logging.getLogger(__name__)


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
        self.backlog = Backlog(self._write_and_show)

    def keep(self, keeping: Keeping) -> None:
        """Takes an answer. Returns at once, and never raises."""
        if not self.backlog.add(keeping):
            self._metrics.failed(keeping.kept.tenant_id, "writer")

    async def _write_and_show(self, batch: Sequence[Keeping]) -> None:
        """Writes answers. What cannot be written is counted, and in memory only."""
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
