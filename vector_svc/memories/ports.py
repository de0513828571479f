"""What memories need from outside, besides points and searches."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol

from vector_svc.engine.records import Collection, StoredPoint
from vector_svc.filters.records import Node
from vector_svc.memories.records import MemorySpace


class MemoryStore(Protocol):
    """Lists what collections of memories hold.

    Every method raises CollectionGoneError if the collection is no longer there.
    """

    def latest(
        self,
        collection: Collection,
        node: Node,
        *,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> Awaitable[list[tuple[StoredPoint, datetime]]]:
        """Return points with their times, the latest first.

        Args:
            collection: Where.
            node: Which points.
            before: Time and id of the point behind which to begin; None for the first.
            limit: Most points.
        """
        ...

    def spaces(
        self, collection: Collection, node: Node, *, after: str | None, limit: int
    ) -> Awaitable[list[MemorySpace]]:
        """Return up to `limit` spaces after one (None: from the first), by name."""
        ...
