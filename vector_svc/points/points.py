"""Points: written, read, changed, counted, deleted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from stepwire.errors import field_invalid
from stepwire.page_tokens import PageTokens
from vector_svc.collections.registry import Collections
from vector_svc.embedding.ports import Embedder
from vector_svc.engine import fields
from vector_svc.engine.records import (
    Collection,
    PointBatch,
    PointDraft,
    StoredPoint,
    UpsertMode,
    Written,
)
from vector_svc.engine.vectors import vectors_of
from vector_svc.metrics import VectorMetrics
from vector_svc.points.ports import PointStore
from vector_svc.points.records import Facet, PayloadChange, Selection

MAX_FACETS: Final = 1_000
DEFAULT_FACETS: Final = 10

_PAGES = PageTokens("ScrollPoints")


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
        embedder: Embedder,
        metrics: VectorMetrics,
    ) -> None:
        self._store = store
        self._collections = collections
        self._embedder = embedder
        self._metrics = metrics

    async def upsert(
        self, tenant_id: str, name: str, drafts: Sequence[PointDraft], mode: UpsertMode
    ) -> Written:
        """Write points, all or none.

        Raises:
            StepwireError: VECTOR_DIMENSION_MISMATCH; POINT_CHANGED; what the model service
                says of texts.
        """
        ids = [draft.id for draft in drafts]
        fields.check_ids(ids, field="points", member=".id")
        fields.check_unique(ids, field="points", member=".id")

        async def write(collection: Collection) -> Written:
            batch = batch_of(collection, await self._embedded(collection, drafts))
            return await self._store.upsert(collection, batch, mode)

        written = await self._collections.use(tenant_id, name, write)
        self._metrics.points_written.add(written.upserted)
        return written

    async def get(
        self,
        tenant_id: str,
        name: str,
        ids: Sequence[str],
        *,
        include_vectors: bool,
        include_hashes: bool = False,
    ) -> list[StoredPoint]:
        """Return the points that exist, in the order of `ids`."""
        fields.check_ids(ids, field="ids")

        async def read(collection: Collection) -> list[StoredPoint]:
            return await self._store.get(
                collection, ids, include_vectors=include_vectors, include_hashes=include_hashes
            )

        found = {point.id: point for point in await self._collections.use(tenant_id, name, read)}
        return [found[point_id] for point_id in ids if point_id in found]

    async def delete(self, tenant_id: str, name: str, selection: Selection) -> int:
        """Delete points; return the number of those that existed."""

        async def remove(collection: Collection) -> int:
            return await self._store.delete(collection, selection)

        deleted = await self._collections.use(tenant_id, name, remove)
        self._metrics.points_deleted.add(deleted)
        return deleted

    async def update_payloads(
        self, tenant_id: str, name: str, selection: Selection, change: PayloadChange
    ) -> int:
        """Change payloads; return the number of those that are now other ones.

        Raises:
            StepwireError: PAYLOAD_TOO_LARGE, for what would come of merging; nothing is
                changed then.
        """

        async def update(collection: Collection) -> int:
            return await self._store.update_payloads(collection, selection, change)

        return await self._collections.use(tenant_id, name, update)

    async def scroll(
        self,
        tenant_id: str,
        name: str,
        selection: Selection,
        *,
        page_size: int,
        page_token: str,
        include_vectors: bool,
    ) -> tuple[list[StoredPoint], str]:
        """Return a page of points by id, and the token of the next ("" if none).

        Raises:
            StepwireError: PAGE_TOKEN_INVALID.
        """
        size = fields.page_size_of(page_size)
        after = _PAGES.read(tenant_id, page_token)

        async def read(collection: Collection) -> list[StoredPoint]:
            return await self._store.scroll(
                collection,
                selection,
                after=after,
                limit=size + 1,
                include_vectors=include_vectors,
            )

        found = await self._collections.use(tenant_id, name, read)
        if len(found) <= size:
            return found, ""
        return found[:size], _PAGES.make(tenant_id, found[size - 1].id)

    async def count(self, tenant_id: str, name: str, selection: Selection, *, at_most: int) -> int:
        """Return the number of points; `at_most`, unless that is 0, if there are more."""
        if at_most < 0:
            raise field_invalid("at_most", "must not be negative")

        async def count(collection: Collection) -> int:
            return await self._store.count(collection, selection, at_most=at_most or None)

        return await self._collections.use(tenant_id, name, count)

    async def facet(
        self, tenant_id: str, name: str, selection: Selection, *, field: str, limit: int
    ) -> list[Facet]:
        """Return the most frequent values of a field at the top of the payload."""
        if not field or "\0" in field:
            raise field_invalid("field", "is required, without U+0000")
        if not 0 <= limit <= MAX_FACETS:
            raise field_invalid("limit", f"must be from 1 to {MAX_FACETS}, or 0")

        async def facet(collection: Collection) -> list[Facet]:
            return await self._store.facet(
                collection, selection, field=field, limit=limit or DEFAULT_FACETS
            )

        return await self._collections.use(tenant_id, name, facet)

    async def _embedded(
        self, collection: Collection, drafts: Sequence[PointDraft]
    ) -> Sequence[PointDraft]:
        """Give a vector to each point that came as text."""
        places = [index for index, draft in enumerate(drafts) if draft.text]
        if not places:
            return drafts
        model = collection.config.model
        if not model:
            wrong = "the collection names no model that could turn text into a vector"
            raise field_invalid(f"points[{places[0]}].text", wrong)
        vectors = await self._embedder.embed(model, [drafts[index].text for index in places])
        made = list(drafts)
        for index, vector in zip(places, vectors, strict=True):
            made[index] = replace(drafts[index], vector=vector.tobytes())
        return made


def batch_of(collection: Collection, drafts: Sequence[PointDraft]) -> PointBatch:
    """Check the vectors and put the points in the order of their ids.

    All writers of a collection lock its rows in this order, so that they cannot wait for
    each other in a circle.

    Raises:
        StepwireError: FIELD_INVALID or VECTOR_DIMENSION_MISMATCH.
    """
    vectors = vectors_of(
        collection,
        [draft.vector for draft in drafts],
        path=lambda index: f"points[{index}].vector",
    )
    order = sorted(range(len(drafts)), key=lambda index: drafts[index].id)
    default = expiry_of(collection.config.default_ttl)
    return PointBatch(
        ids=[drafts[index].id for index in order],
        vectors=vectors[order],
        payloads=[drafts[index].payload for index in order],
        expires=[drafts[index].expires_at or default for index in order],
        hashes=[drafts[index].content_hash for index in order],
    )


def expiry_of(
    ttl: timedelta | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> datetime | None:
    """Return when points of a time to live that are written now are gone; None for never."""
    return None if ttl is None else clock() + ttl
