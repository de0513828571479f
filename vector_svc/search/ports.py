"""What searches need from outside."""

from collections.abc import Awaitable
from typing import Protocol

from vector_svc.engine.records import Collection, Match, Matrix
from vector_svc.search.planner import Plan


class SearchStore(Protocol):
    """Finds points.

    Every method raises CollectionGoneError if the collection is no longer there.
    """

    def count(self, collection: Collection, *, at_most: int) -> Awaitable[int]:
        """Return the exact number of points, `at_most` if there are more."""
        ...

    def estimate(self, collection: Collection) -> Awaitable[int]:
        """Return the number of points, more or less, without counting."""
        ...

    def count_matches(
        self, collection: Collection, filter_: bytes, *, at_most: int
    ) -> Awaitable[int]:
        """Return the number of points that match a filter, `at_most` if there are more."""
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
