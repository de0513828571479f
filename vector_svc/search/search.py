"""Searches: the way each takes, and what becomes of what it finds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, Matrix
from vector_svc.filters.records import AtLeast, Ids, Node, Not, Path, Scalar
from vector_svc.metrics import VectorMetrics
from vector_svc.search import ranking
from vector_svc.search.courses import LEAST_DEPTH, MAX_POOL, POOL, Course, Courses
from vector_svc.search.ports import Prepared, SearchStore
from vector_svc.search.records import Found, Report, Results, Search
from vector_svc.search.reranking import Reranking
from vector_svc.search.samples import QuerySamples
from vector_svc.search.target import Targets
from vector_svc.search.together import Together

# Statements of a batch that are under way at once: each keeps a core of Postgres busy.
BATCH_AT_ONCE: Final = 4

Groups = list[tuple[Scalar, list[Found]]]
CarryOut = Callable[[Prepared, Matrix | None], Awaitable[list[Found]]]


class Searches:
    """Finds points in all collections.

    Every method raises StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND,
    VECTOR_DIMENSION_MISMATCH, and what the model service says of a text.

    Args:
        store: Where points are found.
        targets: Finds the vectors of searches.
        reranking: Ranks points again by their texts.
        collections: Where collections are found.
        courses: How searches go.
        samples: Takes some of them, to measure recall by.
        metrics: Counts them.
        clock: Gives the time, for what is newer.
    """

    def __init__(
        self,
        store: SearchStore,
        *,
        targets: Targets,
        reranking: Reranking,
        collections: Collections,
        courses: Courses,
        samples: QuerySamples,
        metrics: VectorMetrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._targets = targets
        self._reranking = reranking
        self._collections = collections
        self._courses = courses
        self._samples = samples
        self._metrics = metrics
        self._clock = clock

    async def search(self, tenant_id: str, name: str, search: Search) -> Results:
        """Find points, best first.

        Through the index or not, there are fewer than `search.limit` only if there are no
        more that count, or if the report says that there may be.
        """
        find = partial(self._search, search=search, carry_out=self._store.search)
        return await self._collections.use(tenant_id, name, find)

    async def batch(self, tenant_id: str, name: str, searches: Sequence[Search]) -> list[Results]:
        """Carry out several searches, those that are alike together; results in their order."""
        together = Together(self._store, at_once=BATCH_AT_ONCE)
        finds = [partial(self._search, search=each, carry_out=together.search) for each in searches]
        tasks = [
            asyncio.create_task(self._collections.use(tenant_id, name, find)) for find in finds
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await together.close()

    async def groups(
        self, tenant_id: str, name: str, search: Search, *, by: Path, size: int
    ) -> tuple[Results, Groups]:
        """Find the best points of each of the best groups.

        More and more points are looked at until there are enough groups, or no more points.
        """
        pool = max(search.limit * size * POOL, LEAST_DEPTH)
        while True:
            pool = min(pool, MAX_POOL)
            results = await self.search(tenant_id, name, replace(search, limit=pool))
            groups = ranking.in_groups(results.found, by, limit=search.limit, size=size)
            full = len(groups) == search.limit and all(len(found) == size for _, found in groups)
            if full or len(results.found) < pool:
                return results, groups
            if pool == MAX_POOL:
                report = replace(results.report, may_be_short=True)
                return replace(results, report=report), groups
            pool *= POOL

    async def _search(self, collection: Collection, search: Search, carry_out: CarryOut) -> Results:
        vector = await self._targets.vector_of(collection, search)
        if search.examples is not None:
            search = replace(search, filter=_without_examples(search))
        course = await self._courses.of(collection, search, near=vector is not None)
        found, report = await self._find(course, vector, carry_out)
        if vector is not None:
            self._samples.offer(collection, vector, search.offset + search.limit)
        if course.as_found:
            return Results(collection, found, report)
        if search.rerank is not None:
            found = await self._reranking.rank(collection, search, _near_enough(search, found))
            report = replace(report, reranked=len(found))
        return Results(collection, self._ranked(collection, search, found), report)

    async def _find(
        self, course: Course, vector: Matrix | None, carry_out: CarryOut
    ) -> tuple[Sequence[Found], Report]:
        self._metrics.searched(course.report.plan)
        found = await carry_out(course.prepared, vector)
        if len(found) >= course.wanted:
            return found, course.report
        if not course.gives_up:
            return found, course.short
        self._metrics.walks_given_up.add(1)
        prepared, report = self._courses.exactly(course)
        return await carry_out(prepared, vector), report

    def _ranked(
        self, collection: Collection, search: Search, found: Sequence[Found]
    ) -> Sequence[Found]:
        if search.rerank is None:
            found = _near_enough(search, found)
        if search.recency is not None:
            found = ranking.newer_first(found, search.recency, now=self._clock())
        if search.diversity is not None and found:
            vectors = [each.vector or b"" for each in found]
            found = ranking.unlike_each_other(
                found,
                ranking.matrix_of(vectors, collection.config.element),
                strength=search.diversity.strength,
                limit=search.offset + search.limit,
            )
        if search.ranked_anew:
            found = found[search.offset : search.offset + search.limit]
        return _trimmed(found, search)


def _near_enough(search: Search, found: Sequence[Found]) -> Sequence[Found]:
    if search.score_threshold is None or search.words is not None:
        return found
    return [each for each in found if each.score >= search.score_threshold]


def _without_examples(search: Search) -> Node:
    assert search.examples is not None
    others = Not(Ids(search.examples.positive_ids + search.examples.negative_ids))
    return others if search.filter is None else AtLeast(2, (search.filter, others))


def _trimmed(found: Sequence[Found], search: Search) -> Sequence[Found]:
    """Leave out what points carry only for their ranking."""
    if search.diversity is not None and not search.include_vectors:
        found = [replace(each, vector=None) for each in found]
    return found
