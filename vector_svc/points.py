"""Points: written, found, read, deleted."""

from collections.abc import Sequence

from vector_svc import validation
from vector_svc.catalogue import Catalogue
from vector_svc.estimates import Estimates
from vector_svc.metrics import VectorMetrics
from vector_svc.model import (
    Collection,
    Match,
    PointBatch,
    PointDraft,
    Search,
    StoredPoint,
)
from vector_svc.planner import Plan, exact_up_to, plan_filtered, plan_unfiltered
from vector_svc.ports import PointStore
from vector_svc.vectors import read_vectors


class Points:
    """The points of all collections.

    Every method raises StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, and what it
    names besides.
    """

    def __init__(
        self,
        store: PointStore,
        *,
        catalogue: Catalogue,
        estimates: Estimates,
        metrics: VectorMetrics,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._estimates = estimates
        self._metrics = metrics

    async def upsert(self, tenant_id: str, name: str, drafts: Sequence[PointDraft]) -> int:
        """Write points, all or none; return their number.

        Raises:
            StepwireError: VECTOR_DIMENSION_MISMATCH.
        """
        ids = [draft.id for draft in drafts]
        validation.check_ids(ids, field="points", member=".id")
        validation.check_unique(ids, field="points", member=".id")

        async def write(collection: Collection) -> None:
            await self._store.upsert(collection, _batch(collection, drafts))

        await self._catalogue.use(tenant_id, name, write)
        self._metrics.points_written.add(len(drafts))
        return len(drafts)

    async def search(
        self, tenant_id: str, name: str, search: Search
    ) -> tuple[Collection, list[Match]]:
        """Find the points nearest to a vector, nearest first, and where they were found.

        Through the index or not, there are fewer than `search.limit` only if there are no
        more that match.

        Raises:
            StepwireError: VECTOR_DIMENSION_MISMATCH.
        """

        async def find(collection: Collection) -> tuple[Collection, list[Match]]:
            return collection, await self._search(collection, search)

        return await self._catalogue.use(tenant_id, name, find)

    async def get(
        self, tenant_id: str, name: str, ids: Sequence[str], *, include_vectors: bool
    ) -> list[StoredPoint]:
        """Return the points that exist, in the order of `ids`."""
        validation.check_ids(ids, field="ids")

        async def read(collection: Collection) -> list[StoredPoint]:
            return await self._store.get(collection, ids, include_vectors=include_vectors)

        found = {point.id: point for point in await self._catalogue.use(tenant_id, name, read)}
        return [found[point_id] for point_id in ids if point_id in found]

    async def delete(self, tenant_id: str, name: str, ids: Sequence[str]) -> int:
        """Delete points; return the number of those that existed."""
        validation.check_ids(ids, field="ids")

        async def remove(collection: Collection) -> int:
            return await self._store.delete(collection, ids)

        deleted = await self._catalogue.use(tenant_id, name, remove)
        self._metrics.points_deleted.add(deleted)
        return deleted

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
        rows = await self._estimates.rows(collection)
        if search.filter is None:
            return plan_unfiltered(exact=False, rows=rows)
        enough = exact_up_to(rows=rows, limit=search.limit)
        matches = await self._estimates.matches(collection, search.filter, at_most=enough + 1)
        return plan_filtered(exact=False, matches=matches, rows=rows, limit=search.limit)


def _batch(collection: Collection, drafts: Sequence[PointDraft]) -> PointBatch:
    """Check the vectors and put the points in the order of their ids.

    All writers of a collection lock its rows in this order, so that they cannot wait for
    each other in a circle.
    """
    config = collection.config
    vectors = read_vectors(
        [draft.vector for draft in drafts],
        dimension=config.dimension,
        metric=config.metric,
        path=lambda index: f"points[{index}].vector",
    )
    order = sorted(range(len(drafts)), key=lambda index: drafts[index].id)
    return PointBatch(
        ids=[drafts[index].id for index in order],
        vectors=vectors[order],
        payloads=[drafts[index].payload for index in order],
    )
