"""How searches go: planned and made ready once for those that differ in their vectors alone."""

from dataclasses import dataclass, replace
from typing import Final

from stepwire.errors import field_invalid
from vector_svc.engine.records import Collection, IndexKind
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
from vector_svc.search.ports import Order, Prepared, SearchStore, Sizes
from vector_svc.search.records import POSTINGS_FILTERED, Plan, Report, Search
from vector_svc.search.reranking import candidates_of

# Where points are ranked anew once they are found, so many times as many are found first.
POOL: Final = 4
MAX_POOL: Final = 10_000
# Points that each of two rankings gives to be joined.
LEAST_DEPTH: Final = 100
# Courses that are remembered, with what callers sent; beyond that, all are forgotten.
MAX_COURSES: Final = 256


@dataclass(frozen=True, slots=True)
class Course:
    """How searches go that differ in their vectors alone.

    Attributes:
        sizes: What they were planned by; others make another course.
        situation: Likewise.
        prepared: What is carried out.
        report: What is said of one that finds as many points as are wanted.
        wanted: Number of these.
        as_found: Whether points are answered as they are found: none is left out, or ranked
            anew.
    """

    sizes: Sizes
    situation: Situation
    prepared: Prepared
    report: Report
    wanted: int
    as_found: bool

    @property
    def short(self) -> Report:
        """What is said of one that finds fewer points, and is not carried out anew."""
        order = self.prepared.order
        if order.plan is Plan.WORDS:
            # Behind the postings that were read there may be others that the filter leaves.
            unread = order.filter is not None and self.situation.rows > POSTINGS_FILTERED
            return replace(self.report, may_be_short=unread)
        by_both = order.plan.walks and order.words is not None
        return replace(self.report, may_be_short=by_both and order.max_distance is None)

    @property
    def gives_up(self) -> bool:
        """Whether a search that finds fewer points is to be carried out anew.

        Its walk gave up: too many points looked at, or too many deleted ones on its way.
        """
        return self.prepared.order.plan.walks and self.prepared.order.words is None


class Courses:
    """Plans searches, and remembers how as long as what they were planned by is believed.

    A filter's matches may so be believed for twice as long as `estimates` believe them.

    Args:
        store: Makes searches ready.
        estimates: What they are planned by.
        hnsw_ef_search: Candidates that walks keep as long as nothing was measured.
    """

    def __init__(self, store: SearchStore, estimates: Estimates, *, hnsw_ef_search: int) -> None:
        self._store = store
        self._estimates = estimates
        self._hnsw_ef_search = hnsw_ef_search
        self._known: dict[tuple[int, bool, Search], Course] = {}

    async def of(self, collection: Collection, search: Search, *, near: bool) -> Course:
        """Return how a search goes; `near` tells whether it has a vector.

        Raises:
            StepwireError: FIELD_INVALID, for words or a filter that do not fit the collection.
        """
        exact_to = always_exact(collection.config.dimension)
        sizes = await self._estimates.sizes(collection, exact_to=exact_to)
        key = (collection.id, near, search)
        known = self._known.get(key)
        if known is not None and known.sizes is sizes and known.prepared.collection is collection:
            return known
        course = await self._made(collection, search, sizes, near=near)
        if len(self._known) >= MAX_COURSES:
            # Not one by one: to keep the order of their use would cost each search more.
            self._known.clear()
        self._known[key] = course
        return course

    def exactly(self, course: Course) -> tuple[Prepared, Report]:
        """Return what is carried out, and said, where a walk gave up."""
        decision = exactly(course.situation)
        before = course.prepared
        order = replace(before.order, plan=decision.plan)
        report = Report(decision.plan, decision.points_compared, recall=1.0, walk_given_up=True)
        return self._store.prepare(before.collection, order), report

    async def _made(
        self, collection: Collection, search: Search, sizes: Sizes, *, near: bool
    ) -> Course:
        if search.words is not None and collection.config.text is None:
            raise field_invalid(f"{search.path}words", "the collection has no full-text search")
        wanted, offset = _wanted(search)
        depth = max(LEAST_DEPTH, wanted) if search.words is not None else wanted
        situation = await self._situation(collection, search, sizes, wanted=depth)
        decision = decide(situation) if near else Decision(Plan.WORDS, 0, 0, 0.0)
        decision, candidates = ranked_by_whole_vectors(
            decision, collection.index, wanted=depth, oversampling=search.oversampling
        )
        order = Order(
            plan=decision.plan,
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
        report = Report(
            plan=decision.plan,
            points_compared=decision.points_compared,
            recall=decision.recall,
            ef_search=0 if _of_lists(collection) else decision.effort,
            probes=decision.effort if _of_lists(collection) else 0,
        )
        prepared = self._store.prepare(collection, order)
        any_score = search.score_threshold is None or search.words is not None
        return Course(
            sizes=sizes,
            situation=situation,
            prepared=prepared,
            report=report,
            wanted=wanted - offset,
            as_found=any_score and not search.ranked_anew,
        )

    async def _situation(
        self, collection: Collection, search: Search, sizes: Sizes, *, wanted: int
    ) -> Situation:
        situation = Situation(
            rows=sizes.points,
            dimension=collection.config.dimension,
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


def _of_lists(collection: Collection) -> bool:
    return collection.index.kind is IndexKind.IVFFLAT


def _wanted(search: Search) -> tuple[int, int]:
    """Points to find, and those among them to leave out at once."""
    wanted = search.offset + search.limit
    if not search.ranked_anew:
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
    return collection.config.metric.best - search.score_threshold
