"""What points need from outside."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from vector_svc.engine.records import Collection, PointBatch, StoredPoint, UpsertMode, Written
from vector_svc.points.records import Facet, PayloadChange, Selection


class PointStore(Protocol):
    """Keeps the points of collections. Points whose time has come are not there.

    Every method raises CollectionGoneError if the collection is no longer there, and
    StepwireError FIELD_INVALID for values that a promoted field refuses.
    """

    def upsert(
        self, collection: Collection, batch: PointBatch, mode: UpsertMode
    ) -> Awaitable[Written]:
        """Write all points of the batch, or none.

        Raises:
            StepwireError: POINT_CHANGED, when one is not stored with the hash expected.
        """
        ...

    def load(
        self, collection: Collection, batch: PointBatch, *, turn: Awaitable[object] | None
    ) -> Awaitable[Written]:
        """As `upsert`, of many points, most of which are not there.

        Args:
            collection: Where.
            batch: The points.
            turn: Awaited when all is ready to be written; what it raises ends the work.
        """
        ...

    def get(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        include_vectors: bool,
        include_hashes: bool,
    ) -> Awaitable[list[StoredPoint]]:
        """Return the points that exist, in no particular order."""
        ...

    def delete(self, collection: Collection, selection: Selection) -> Awaitable[int]:
        """Delete points; return the number of those that were there."""
        ...

    def update_payloads(
        self, collection: Collection, selection: Selection, change: PayloadChange
    ) -> Awaitable[int]:
        """Change payloads, or none; return the number of those that are now other ones.

        Raises:
            StepwireError: PAYLOAD_TOO_LARGE, for what would come of merging.
        """
        ...

    def scroll(
        self,
        collection: Collection,
        selection: Selection,
        *,
        after: str,
        limit: int,
        include_vectors: bool,
    ) -> Awaitable[list[StoredPoint]]:
        """Return up to `limit` points whose ids come after `after`, by id."""
        ...

    def count(
        self, collection: Collection, selection: Selection, *, at_most: int | None
    ) -> Awaitable[int]:
        """Return the number of points; `at_most` if there are more."""
        ...

    def facet(
        self, collection: Collection, selection: Selection, *, field: str, limit: int
    ) -> Awaitable[list[Facet]]:
        """Return the most frequent values of a field at the top of the payload."""
        ...
