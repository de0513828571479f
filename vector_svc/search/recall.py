"""What share of the nearest points an index finds, measured; and how far walks must go."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, IndexKind, Matrix
from vector_svc.search.estimates import Estimates
from vector_svc.search.planner import MAX_EF_SEARCH
from vector_svc.search.ports import Near, RecallStore
from vector_svc.search.records import Figure, Plan, Recall

# Measured by rising numbers until one reaches this recall: more would find no more.
EF_SEARCHES: Final = (20, 40, 64, 100, 150, 200, 300, 400, 600, MAX_EF_SEARCH)
ENOUGH: Final = 0.999
ROUNDING: Final = 1e-6


class Recalls:
    """Measures the indexes of collections."""

    def __init__(
        self, store: RecallStore, *, collections: Collections, estimates: Estimates
    ) -> None:
        self._store = store
        self._collections = collections
        self._estimates = estimates

    async def measure(
        self, tenant_id: str, name: str, *, limit: int, samples: int, target: float
    ) -> tuple[Recall, int]:
        """Measure, keep what was found, and return it with the candidates to keep from now on.

        Stored points are sampled and searched for by their own vectors; they themselves do
        not count among their neighbours. 0 candidates mean that no walk is enough.

        Args:
            tenant_id: Whose collection.
            name: Its name.
            limit: Number of nearest points that count.
            samples: Number of points to sample.
            target: Share of the nearest to be found from now on.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """

        async def work(collection: Collection) -> Recall:
            return await self._measure(collection, limit=limit, samples=samples, target=target)

        recall = await self._collections.use(tenant_id, name, work)
        enough = (each.ef_search for each in recall.figures if each.recall >= target)
        return recall, next(enough, 0)

    async def _measure(
        self, collection: Collection, *, limit: int, samples: int, target: float
    ) -> Recall:
        recall = Recall(target, (), 0.0, 0, datetime.now(UTC))
        if collection.index_ready and collection.index.kind is IndexKind.HNSW:
            recall = await self._walk(collection, recall, limit=limit, samples=samples)
        kept = replace(recall, measured_at=await self._store.keep(collection, recall))
        self._estimates.forget(collection)
        return kept

    async def _walk(
        self, collection: Collection, recall: Recall, *, limit: int, samples: int
    ) -> Recall:
        ids, vectors = await self._store.sample(collection, samples)
        queries = [
            Query(point_id, vectors[number : number + 1]) for number, point_id in enumerate(ids)
        ]
        for query in queries:
            near, _ = await self._store.nearest(
                collection, query.vector, plan=Plan.EXACT, ef_search=0, limit=limit + 1
            )
            query.know(near, limit)
        figures: list[Figure] = []
        unreachable = 0.0
        for ef_search in EF_SEARCHES:
            hits = missed = 0
            times = []
            for query in queries:
                near, took = await self._store.nearest(
                    collection,
                    query.vector,
                    plan=Plan.INDEX,
                    ef_search=max(ef_search, limit + 1),
                    limit=limit + 1,
                )
                times.append(took)
                hits += query.hits(near)
                missed += query.misses_itself(near)
            wanted = sum(query.wanted for query in queries)
            share = hits / wanted if wanted else 1.0
            figures.append(Figure(ef_search, share, statistics.median(times) if times else 0.0))
            unreachable = missed / len(ids) if ids else 0.0
            if share >= ENOUGH and not missed:
                break
        return replace(recall, figures=tuple(figures), unreachable=unreachable, samples=len(ids))


class Query:
    """A sampled point, and how near its nearest neighbours are.

    What counts is how near the points are that a walk finds, not which they are: among
    points that are equally near there is no right choice.
    """

    def __init__(self, point_id: str, vector: Matrix) -> None:
        self.point_id = point_id
        self.vector = vector
        self.wanted = 0
        self._reach = 0.0

    def know(self, near: Sequence[Near], limit: int) -> None:
        """Take what an exact search has found as the truth."""
        distances = self._others(near)[:limit]
        self.wanted = len(distances)
        # Distances are float32: what differs by its rounding is equally near.
        furthest = max(distances, default=0.0)
        self._reach = furthest + abs(furthest) * ROUNDING + ROUNDING

    def hits(self, near: Sequence[Near]) -> int:
        """Return how many of the nearest were found."""
        within = sum(distance <= self._reach for distance in self._others(near))
        return min(within, self.wanted)

    def misses_itself(self, near: Sequence[Near]) -> bool:
        """Whether its own vector has led neither to the point nor to all that are as near."""
        return all(each != self.point_id for each, _ in near) and self.hits(near) < self.wanted

    def _others(self, near: Sequence[Near]) -> list[float]:
        return [distance for each, distance in near if each != self.point_id]
