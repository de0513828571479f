"""What share of the nearest points an index finds, measured; and how far walks must go."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, IndexKind, IndexOptions, Matrix
from vector_svc.search.efforts import ladder, nearests
from vector_svc.search.estimates import Estimates
from vector_svc.search.ports import Near, RecallStore
from vector_svc.search.records import Figure, Recall, RecallQueries

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 100
# So many searches tell more of later ones than points do. Ten points of each: the recall
# that they give is within 0.03 of the true one nearly always.
ENOUGH_QUERIES: Final = 50
# Where a hundred of the nearest count and more, fewer searches tell as much.
ENOUGH_FARTHER: Final = 25

# Measured by rising efforts until one reaches this recall: more would find no more.
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
        self, tenant_id: str, name: str, *, limit: int, samples: int, target: float, points: bool
    ) -> Recall:
        """Measure, keep what was found, and return it.

        What callers had searched for is searched for again if enough of that was kept.
        Otherwise stored points are sampled and searched for by their own vectors; they
        themselves do not count among their neighbours.

        Args:
            tenant_id: Whose collection.
            name: Its name.
            limit: Number of nearest points that count; 0 for as many as half of the
                searches wanted, or 10 of points.
            samples: Number of searches or points to sample.
            target: Share of the nearest to be found from now on.
            points: Whether points are searched for in any case.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """

        async def work(collection: Collection) -> Recall:
            recall = Recall(
                target=target,
                index=collection.built,
                figures=(),
                unreachable=0.0,
                samples=0,
                queries=RecallQueries.POINTS,
                measured_at=datetime.now(UTC),
            )
            if collection.built is not None:
                queries = [] if points else await self._searches(collection, limit, samples)
                queries = queries or await self._points(collection, limit, samples)
                recall = await self._measure(collection, collection.built, recall, queries)
            kept = replace(recall, measured_at=await self._store.keep(collection, recall))
            self._estimates.forget(collection)
            return kept

        return await self._collections.use(tenant_id, name, work)

    async def _searches(
        self, collection: Collection, limit: int, samples: int
    ) -> Sequence["Query"]:
        """Return searches to repeat; none if too few were kept."""
        found = await self._store.queries(collection, samples)
        if len(found) < min(samples, ENOUGH_QUERIES):
            return []
        usual = statistics.median_low(query.wanted for query in found)
        return [Query(None, query.vector, limit or min(usual, MAX_LIMIT)) for query in found]

    async def _points(self, collection: Collection, limit: int, samples: int) -> Sequence["Query"]:
        ids, vectors = await self._store.sample(collection, samples)
        return [
            Query(point_id, vectors[number : number + 1], limit or DEFAULT_LIMIT)
            for number, point_id in enumerate(ids)
        ]

    async def _measure(
        self,
        collection: Collection,
        index: IndexOptions,
        recall: Recall,
        queries: Sequence["Query"],
    ) -> Recall:
        if not queries:
            return recall
        first, *others = nearests(index, queries[0].limit)
        some = queries[:ENOUGH_FARTHER] if others else []
        for number, query in enumerate(queries):
            limit = query.asks(max(first, *others, 0) if number < len(some) else first)
            query.know(await self._store.exact(collection, query.vector, limit=limit))
        climb = partial(self._climb, collection, index)
        figures, missed = await climb(queries, [first], goes_on=True)
        # As many nearest points as a walk looks at that drops most of them; it goes on to more
        # lists only where it has not enough even so.
        known = max((query.known for query in some), default=0)
        farther, _ = await climb(some, [each for each in others if each <= known], goes_on=False)
        of_points = queries[0].point_id is not None
        return replace(
            recall,
            figures=tuple(sorted(figures + farther, key=lambda each: (each.nearest, each.effort))),
            unreachable=missed / len(queries) if of_points else 0.0,
            samples=len(queries),
            queries=RecallQueries.POINTS if of_points else RecallQueries.SEARCHES,
        )

    async def _climb(
        self,
        collection: Collection,
        index: IndexOptions,
        queries: Sequence["Query"],
        wanted: Sequence[int],
        *,
        goes_on: bool,
    ) -> tuple[list[Figure], int]:
        """Walk farther and farther, until more would find no more.

        Args:
            collection: The collection.
            index: Its index.
            queries: What to search for; their nearest points are known.
            wanted: Numbers of nearest points that count, rising.
            goes_on: Whether walks look into more lists where these have too few points.

        Returns:
            What was found, and how many points were not found by their own vectors.
        """
        figures: list[Figure] = []
        missed = 0
        for effort in ladder(index):
            if not wanted:
                break
            walks: list[Sequence[Near]] = []
            times = []
            for query in queries:
                limit = query.asks(wanted[-1])
                near, took = await self._store.walk(
                    collection,
                    query.vector,
                    effort=effort if index.kind is IndexKind.IVFFLAT else max(effort, limit),
                    limit=limit,
                    goes_on=goes_on,
                )
                walks.append(near)
                times.append(took)
            made = [_figure(effort, queries, walks, times, each) for each in wanted]
            figures += made
            missed = sum(map(Query.misses_itself, queries, walks))
            wanted = [each.nearest for each in made if each.recall < ENOUGH or missed]
        return figures, missed


class Query:
    """A sampled point or search, and how near the points nearest to it are.

    What counts is how near the points are that a walk finds, not which they are: among
    points that are equally near there is no right choice.

    Args:
        point_id: The point, which does not count among its neighbours; None of a search.
        vector: A matrix of one row.
        limit: Number of nearest points that count.
    """

    def __init__(self, point_id: str | None, vector: Matrix, limit: int) -> None:
        self.point_id = point_id
        self.vector = vector
        self.limit = limit
        self._distances: list[float] = []

    @property
    def known(self) -> int:
        """How many of the nearest points are known."""
        return len(self._distances)

    def asks(self, wanted: int) -> int:
        """Return how many points to search for, to have so many that count."""
        return wanted if self.point_id is None else wanted + 1

    def know(self, near: Sequence[Near]) -> None:
        """Take what an exact search has found as the truth."""
        self._distances = self._others(near)

    def hits(self, near: Sequence[Near], wanted: int) -> tuple[int, int]:
        """Return how many of the nearest were found, and how many there are to be found."""
        wanted = min(wanted, self.known)
        # Distances are float32: what differs by its rounding is equally near.
        furthest = self._distances[wanted - 1] if wanted else 0.0
        reach = furthest + abs(furthest) * ROUNDING + ROUNDING
        within = sum(distance <= reach for distance in self._others(near))
        return min(within, wanted), wanted

    def misses_itself(self, near: Sequence[Near]) -> bool:
        """Whether its own vector has led neither to the point nor to all that are as near."""
        if self.point_id is None or any(each == self.point_id for each, _ in near):
            return False
        found, wanted = self.hits(near, self.limit)
        return found < wanted

    def _others(self, near: Sequence[Near]) -> list[float]:
        return [distance for each, distance in near if each != self.point_id]


def _figure(
    effort: int,
    queries: Sequence[Query],
    walks: Sequence[Sequence[Near]],
    times: Sequence[float],
    wanted: int,
) -> Figure:
    found = nearest = 0
    for query, near in zip(queries, walks, strict=True):
        hits, there = query.hits(near, wanted)
        found += hits
        nearest += there
    recall = found / nearest if nearest else 1.0
    return Figure(effort, recall, statistics.median(times), wanted)
