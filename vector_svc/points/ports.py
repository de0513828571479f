"""What points need from outside."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from vector_svc.engine.records import Collection, PointBatch, StoredPoint


class PointStore(Protocol):
    """Keeps the points of collections.

    Every method raises CollectionGoneError if the collection is no longer there.
    """

    def upsert(self, collection: Collection, batch: PointBatch) -> Awaitable[None]:
        """Write all points of the batch, or none."""
        ...

    def get(
        self, collection: Collection, ids: Sequence[str], *, include_vectors: bool
    ) -> Awaitable[list[StoredPoint]]:
        """Return the points that exist, in no particular order."""
        ...

    def delete(self, collection: Collection, ids: Sequence[str]) -> Awaitable[int]:
        """Delete the points that exist; return their number."""
        ...
