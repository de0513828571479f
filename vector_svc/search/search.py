"""Searches: the way each takes, and what happens when it finds too few."""

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, Match, Search
from vector_svc.engine.vectors import read_vectors
from vector_svc.metrics import VectorMetrics
from vector_svc.search.estimates import Estimates
from vector_svc.search.planner import (
    Plan,
    always_exact,
    exact_up_to,
    plan_filtered,
    plan_unfiltered,
)
from vector_svc.search.ports import SearchStore


class Searches:
    """Finds points in all collections."""

    def __init__(
        self,
        store: SearchStore,
        *,
        collections: Collections,
        estimates: Estimates,
        metrics: VectorMetrics,
    ) -> None:
        self._store = store
        self._collections = collections
        self._estimates = estimates
        self._metrics = metrics

    async def search(
        self, tenant_id: str, name: str, search: Search
    ) -> tuple[Collection, list[Match]]:
        """Find the points nearest to a vector, nearest first, and where they were found.

        Through the index or not, there are fewer than `search.limit` only if there are no
        more that match.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, VECTOR_DIMENSION_MISMATCH.
        """

        async def find(collection: Collection) -> tuple[Collection, list[Match]]:
            return collection, await self._search(collection, search)

        return await self._collections.use(tenant_id, name, find)

    async def _search(self, collection: Collection, search: Search) -> list[Match]:
        config = collection.config
        vector = read_vectors(
            [search.vector],
            dimension=config.dimension,
            metric=config.metric,
            path=lambda _: "vector",
        )

        async def run(plan: Plan) -> list[Match]:
            self._metrics.searched(plan)
            return await self._store.search(
                collection,
                vector,
                plan=plan,
                limit=search.limit,
                filter_=search.filter,
                include_vectors=search.include_vectors,
            )

        plan = await self._plan(collection, search)
        found = await run(plan)
        if plan is Plan.EXACT or len(found) == search.limit:
            return found
        # The walk gave up: too many points looked at, or too many deleted ones on its way.
        self._metrics.walks_given_up.add(1)
        return await run(Plan.EXACT)

    async def _plan(self, collection: Collection, search: Search) -> Plan:
        if search.exact:
            return Plan.EXACT
        dimension = collection.config.dimension
        rows = await self._estimates.rows(collection, exact_to=always_exact(dimension))
        if search.filter is None:
            return plan_unfiltered(exact=False, rows=rows, dimension=dimension)
        enough = exact_up_to(rows=rows, limit=search.limit, dimension=dimension)
        matches = await self._estimates.matches(collection, search.filter, at_most=enough + 1)
        return plan_filtered(
            exact=False, matches=matches, rows=rows, limit=search.limit, dimension=dimension
        )
