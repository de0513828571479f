"""Searches: the way each takes, and what becomes of what it finds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from stepwire.errors import field_invalid
from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, IndexKind, Matrix
from vector_svc.filters.records import AtLeast, Ids, Node, Not, Path, Scalar
from vector_svc.metrics import VectorMetrics
from vector_svc.search import ranking
from vector_svc.search.estimates import Estimates
from vector_svc.search.planner import (
    Decision,
    Situation,
    always_exact,
    decide,
    exact_up_to,
    exactly,
    ranked_by_whole_vectors,
)
from vector_svc.search.ports import Order, SearchStore
from vector_svc.search.records import POSTINGS_FILTERED, Found, Plan, Report, Results, Search
from vector_svc.search.reranking import Reranking, candidates_of
from vector_svc.search.samples import QuerySamples
from vector_svc.search.target import Targets
from vector_svc.search.together import Together

# Where points are ranked anew once they are found, so many times as many are found first.
POOL: Final = 4
MAX_POOL: Final = 10_000
# Points that each of two rankings gives to be joined.
LEAST_DEPTH: Final = 100
# Statements of a batch that are under way at once: each keeps a core of Postgres busy.
BATCH_AT_ONCE: Final = 4

Groups = list[tuple[Scalar, list[Found]]]
CarryOut = Callable[[Collection, Order], Awaitable[list[Found]]]


class Searches:
    """Finds points in all collections.

    Every method raises StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND,
    VECTOR_DIMENSION_MISMATCH, and what the model service says of a text.

    Args:
        store: Where points are found.
        targets: Finds the vectors of searches.
        reranking: Ranks points again by their texts.
        collections: Where collections are found.
        estimates: What searches are planned by.
        samples: Takes some of them, to measure recall by.
        metrics: Counts them.
        hnsw_ef_search: Candidates that walks keep as long as nothing was measured.
        clock: Gives the time, for what is newer.
    """

    def __init__(
        self,
        store: SearchStore,
        *,
        targets: Targets,
        reranking: Reranking,
        collections: Collections,
        estimates: Estimates,
        samples: QuerySamples,
        metrics: VectorMetrics,
        hnsw_ef_search: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._targets = targets
        self._reranking = reranking
        self._collections = collections
        self._estimates = estimates
        self._samples = samples
        self._metrics = metrics
        self._hnsw_ef_search = hnsw_ef_search
        self._clock = clock

    async def search(self, tenant_id: str, name: str, search: Search) -> Results:
        """Find points, best first.

        Through the index or not, there are fewer than `search.limit` only if there are no
        more that count, or if the report says that there may be.
        """
        return await self._in(tenant_id, name, search, self._store.search)

    async def batch(self, tenant_id: str, name: str, searches: Sequence[Search]) -> list[Results]:
        """Carry out several searches, those that are alike together; results in their order."""
        together = Together(self._store, at_once=BATCH_AT_ONCE)
        tasks = [
            asyncio.create_task(self._in(tenant_id, name, search, together.search))
            for search in searches
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

    async def _in(self, tenant_id: str, name: str, search: Search, carry_out: CarryOut) -> Results:
        async def find(collection: Collection) -> Results:
            return await self._search(collection, search, carry_out)

        return await self._collections.use(tenant_id, name, find)

    async def _search(self, collection: Collection, search: Search, carry_out: CarryOut) -> Results:
        vector = await self._targets.vector_of(collection, search)
        _check(collection, search)
        if search.examples is not None:
            search = replace(search, filter=_without_examples(search))
        order, situation, decision = await self._order(collection, search, vector)
        found, report = await self._find(collection, order, situation, decision, carry_out)
        if vector is not None:
            self._samples.offer(collection, vector, search.offset + search.limit)
        if search.rerank is not None:
            found = await self._reranking.rank(collection, search, _near_enough(search, found))
            report = replace(report, reranked=len(found))
        return Results(collection, self._ranked(collection, search, found), report)

    async def _order(
        self, collection: Collection, search: Search, vector: Matrix | None
    ) -> tuple[Order, Situation, Decision]:
        wanted, offset = _wanted(search)
        depth = max(LEAST_DEPTH, wanted) if search.words is not None else wanted
        situation = await self._situation(collection, search, wanted=depth)
        decision = Decision(Plan.WORDS, 0, 0, 0.0) if vector is None else decide(situation)
        decision, candidates = ranked_by_whole_vectors(
            decision, collection.index, wanted=depth, oversampling=search.oversampling
        )
        order = Order(
            plan=decision.plan,
            vector=vector,
            wanted=wanted,
            offset=offset,
            filter=search.filter,
            words=search.words,
            effort=decision.effort,
            most_lists=decision.most_lists,
            candidates=candidates,
            depth=depth,
            max_distance=_max_distance(collection, search),
            payloads=_needs_payloads(search),
            vectors=search.include_vectors or search.diversity is not None,
            times=search.recency is not None and not search.recency.path,
        )
        return order, situation, decision

    async def _situation(self, collection: Collection, search: Search, *, wanted: int) -> Situation:
        dimension = collection.config.dimension
        sizes = await self._estimates.sizes(collection, exact_to=always_exact(dimension))
        situation = Situation(
            rows=sizes.points,
            dimension=dimension,
            wanted=wanted,
            exact=search.exact,
            index=collection.built,
            effort=search.probes if _of_lists(collection) else search.ef_search,
            target_recall=search.target_recall,
            recall=sizes.recall and sizes.recall.of(collection.built),
            default_ef_search=self._hnsw_ef_search,
        )
        if search.filter is None:
            return situation
        matches = await self._estimates.matches(
            collection, search.filter, at_most=exact_up_to(situation) + 1, rows=sizes.points
        )
        return replace(situation, matches=matches)

    async def _find(
        self,
        collection: Collection,
        order: Order,
        situation: Situation,
        decision: Decision,
        carry_out: CarryOut,
    ) -> tuple[list[Found], Report]:
        self._metrics.searched(decision.plan)
        found = await carry_out(collection, order)
        report = Report(
            plan=decision.plan,
            points_compared=decision.points_compared,
            recall=decision.recall,
            ef_search=0 if _of_lists(collection) else decision.effort,
            probes=decision.effort if _of_lists(collection) else 0,
        )
        short = len(found) < order.wanted - order.offset
        if not short or not decision.plan.walks:
            # Behind the postings that were read there may be others that the filter leaves.
            unread = order.filter is not None and situation.rows > POSTINGS_FILTERED
            by_words = decision.plan is Plan.WORDS
            return found, replace(report, may_be_short=short and by_words and unread)
        if order.words is not None:
            return found, replace(report, may_be_short=order.max_distance is None)
        # The walk gave up: too many points looked at, or too many deleted ones on its way.
        self._metrics.walks_given_up.add(1)
        decision = exactly(situation)
        found = await carry_out(collection, replace(order, plan=decision.plan))
        report = Report(decision.plan, decision.points_compared, recall=1.0, walk_given_up=True)
        return found, report

    def _ranked(
        self, collection: Collection, search: Search, found: Sequence[Found]
    ) -> Sequence[Found]:
        if search.rerank is None:
            found = _near_enough(search, found)
        if search.recency is not None:
            found = ranking.newer_first(found, search.recency, now=self._clock())
        if search.diversity is not None and found:
            vectors = [each.point.vector or b"" for each in found]
            found = ranking.unlike_each_other(
                found,
                ranking.matrix_of(vectors, collection.config.element),
                strength=search.diversity.strength,
                limit=search.offset + search.limit,
            )
        if _ranked_anew(search):
            found = found[search.offset : search.offset + search.limit]
        return _trimmed(found, search)


def _of_lists(collection: Collection) -> bool:
    return collection.index.kind is IndexKind.IVFFLAT


def _check(collection: Collection, search: Search) -> None:
    if search.words is not None and collection.config.text is None:
        raise field_invalid(f"{search.field}words", "the collection has no full-text search")


def _near_enough(search: Search, found: Sequence[Found]) -> Sequence[Found]:
    if search.score_threshold is None or search.words is not None:
        return found
    return [each for each in found if each.score >= search.score_threshold]


def _ranked_anew(search: Search) -> bool:
    return any((search.recency, search.diversity, search.rerank))


def _wanted(search: Search) -> tuple[int, int]:
    """Points to find, and those among them to leave out at once."""
    wanted = search.offset + search.limit
    if not _ranked_anew(search):
        return wanted, search.offset
    pool = search.diversity.candidates if search.diversity else 0
    if search.rerank:
        pool = max(pool, candidates_of(search))
    return min(max(pool or POOL * wanted, wanted), MAX_POOL), 0


def _needs_payloads(search: Search) -> bool:
    in_payload = search.recency is not None and bool(search.recency.path)
    in_payload = in_payload or search.rerank is not None
    return in_payload or not search.payload.none


def _max_distance(collection: Collection, search: Search) -> float | None:
    if search.score_threshold is None:
        return None
    return ranking.distance_of(collection.config.metric, search.score_threshold)


def _without_examples(search: Search) -> Node:
    assert search.examples is not None
    others = Not(Ids(search.examples.positive_ids + search.examples.negative_ids))
    return others if search.filter is None else AtLeast(2, (search.filter, others))


def _trimmed(found: Sequence[Found], search: Search) -> Sequence[Found]:
    """Leave out what points carry only for their ranking."""
    if search.diversity is not None and not search.include_vectors:
        found = [replace(each, point=replace(each.point, vector=None)) for each in found]
    return found
