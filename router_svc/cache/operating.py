"""What people may do with the cache: look, and remove."""

from dataclasses import dataclass

from router_svc.cache.answers import Record
from router_svc.cache.between import Between
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import CacheMetrics, Counts
from router_svc.cache.part import Part
from router_svc.cache.records import Holding, Selection
from router_svc.cache.sharing import catch_up


@dataclass(frozen=True, slots=True)
class CacheView:
    """A tenant's cache as people see it; errors are empty when all is well."""

    holding: Holding
    counts: Counts
    semantic_error: str
    redis_error: str


class CacheOperations:
    """See `cache_service.proto`.

    Args:
        memory: The answers of this process.
        record: Those of all instances; None without a database.
        between: Those in Redis; None without one.
        meaning: Whether questions can be found by meaning.
        metrics: Has the counts.
    """

    def __init__(
        self,
        memory: MemoryAnswers,
        record: Record | None,
        between: Between | None,
        meaning: Part,
        metrics: CacheMetrics,
    ) -> None:
        self._memory = memory
        self._record = record
        self._between = between
        self._meaning = meaning
        self._metrics = metrics

    async def invalidate(self, selection: Selection, *, validate_only: bool) -> int:
        """Removes answers, or only counts them; returns how many.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE: the record is away, and nothing was
                removed.
        """
        if self._record is None:
            invalidation = self._memory.select(selection)
            if validate_only:
                return self._memory.count(invalidation)
            return self._memory.invalidate(invalidation)
        if validate_only:
            return await self._record.store.count(selection)
        removed = await self._record.store.invalidate(selection)
        # Others may have come before it: none is passed over.
        await catch_up(self._memory, self._record.store)
        return removed

    async def view(self, tenant_id: str) -> CacheView:
        """Returns what is kept for a tenant, and what has come of it.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        if self._record is None:
            holding = self._memory.holding(tenant_id)
        else:
            holding = await self._record.store.holding(tenant_id)
        redis_error = "" if self._between is None else self._between.why
        return CacheView(holding, self._metrics.of(tenant_id), self._meaning.why, redis_error)
