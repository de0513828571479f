"""What the domain needs from a store."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from vector_svc.model import (
    Collection,
    CollectionConfig,
    Match,
    Matrix,
    PointBatch,
    SizedCollection,
    StoredPoint,
)
from vector_svc.planner import Plan


class CollectionGoneError(Exception):
    """The points of a collection are no longer there: it was deleted meanwhile."""


class CollectionStore(Protocol):
    """Keeps collections, by tenant and name."""

    def create(self, tenant_id: str, config: CollectionConfig) -> Awaitable[Collection]:
        """Make the collection, or return the one of this name that exists."""
        ...

    def find(self, tenant_id: str, name: str) -> Awaitable[Collection | None]:
        """Return the collection, None if there is none."""
        ...

    def page(self, tenant_id: str, *, after: str, limit: int) -> Awaitable[list[SizedCollection]]:
        """Return up to `limit` collections whose names come after `after`, by name."""
        ...

    def delete(self, tenant_id: str, name: str) -> Awaitable[bool]:
        """Delete the collection and its points; False if there was none."""
        ...


class PointStore(Protocol):
    """Keeps the points of collections.

    Every method raises CollectionGoneError if the collection is no longer there.
    """

    def count(self, collection: Collection) -> Awaitable[int]:
        """Return the exact number of points."""
        ...

    def estimate(self, collection: Collection) -> Awaitable[int]:
        """Return the number of points, more or less, without counting."""
        ...

    def count_matches(
        self, collection: Collection, filter_: bytes, *, at_most: int
    ) -> Awaitable[int]:
        """Return the number of points that match a filter, `at_most` if there are more."""
        ...

    def upsert(self, collection: Collection, batch: PointBatch) -> Awaitable[None]:
        """Write all points of the batch, or none."""
        ...

    def search(
        self,
        collection: Collection,
        vector: Matrix,
        *,
        plan: Plan,
        limit: int,
        filter_: bytes | None,
        include_vectors: bool,
    ) -> Awaitable[list[Match]]:
        """Return the nearest points, nearest first.

        Args:
            collection: Where to search.
            vector: A matrix of one row.
            plan: The way to search.
            limit: Most points to return.
            filter_: A JSON object that payloads must contain; None for every point.
            include_vectors: Whether the points carry their vectors.
        """
        ...

    def get(
        self, collection: Collection, ids: Sequence[str], *, include_vectors: bool
    ) -> Awaitable[list[StoredPoint]]:
        """Return the points that exist, in no particular order."""
        ...

    def delete(self, collection: Collection, ids: Sequence[str]) -> Awaitable[int]:
        """Delete the points that exist; return their number."""
        ...
