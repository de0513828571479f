"""Points: written, read, deleted."""

from collections.abc import Sequence

from vector_svc.collections.registry import Collections
from vector_svc.engine import fields
from vector_svc.engine.records import (
    Collection,
    PointBatch,
    PointDraft,
    StoredPoint,
)
from vector_svc.engine.vectors import read_vectors
from vector_svc.metrics import VectorMetrics
from vector_svc.points.ports import PointStore


class Points:
    """The points of all collections.

    Every method raises StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, and what it
    names besides.
    """

    def __init__(
        self,
        store: PointStore,
        *,
        collections: Collections,
        metrics: VectorMetrics,
    ) -> None:
        self._store = store
        self._collections = collections
        self._metrics = metrics

    async def upsert(self, tenant_id: str, name: str, drafts: Sequence[PointDraft]) -> int:
        """Write points, all or none; return their number.

        Raises:
            StepwireError: VECTOR_DIMENSION_MISMATCH.
        """
        ids = [draft.id for draft in drafts]
        fields.check_ids(ids, field="points", member=".id")
        fields.check_unique(ids, field="points", member=".id")

        async def write(collection: Collection) -> None:
            await self._store.upsert(collection, _batch(collection, drafts))

        await self._collections.use(tenant_id, name, write)
        self._metrics.points_written.add(len(drafts))
        return len(drafts)

    async def get(
        self, tenant_id: str, name: str, ids: Sequence[str], *, include_vectors: bool
    ) -> list[StoredPoint]:
        """Return the points that exist, in the order of `ids`."""
        fields.check_ids(ids, field="ids")

        async def read(collection: Collection) -> list[StoredPoint]:
            return await self._store.get(collection, ids, include_vectors=include_vectors)

        found = {point.id: point for point in await self._collections.use(tenant_id, name, read)}
        return [found[point_id] for point_id in ids if point_id in found]

    async def delete(self, tenant_id: str, name: str, ids: Sequence[str]) -> int:
        """Delete points; return the number of those that existed."""
        fields.check_ids(ids, field="ids")

        async def remove(collection: Collection) -> int:
            return await self._store.delete(collection, ids)

        deleted = await self._collections.use(tenant_id, name, remove)
        self._metrics.points_deleted.add(deleted)
        return deleted


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
