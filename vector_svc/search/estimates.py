"""Sizes that a search is planned by: read from the store, believed for a short time."""

from vector_svc.engine.cache import Cache
from vector_svc.engine.records import Collection, IndexKind
from vector_svc.filters.records import Node
from vector_svc.search.ports import SearchStore, Sizes


class Estimates:
    """Numbers of points, matches of filters, and what was measured of indexes.

    Args:
        store: Where they are read.
        cache_entries: Filters remembered; as many collections besides.
        cache_seconds: How long a number is believed.
    """

    def __init__(self, store: SearchStore, *, cache_entries: int, cache_seconds: float) -> None:
        self._store = store
        self._sizes: Cache[int, Sizes] = Cache(capacity=cache_entries, ttl_seconds=cache_seconds)
        self._matches: Cache[tuple[int, Node, int], int] = Cache(
            capacity=cache_entries, ttl_seconds=cache_seconds
        )

    async def sizes(self, collection: Collection, *, exact_to: int) -> Sizes:
        """Return the number of points, up to `exact_to` exact, and what was measured.

        More points are guessed by Postgres. The guess alone does not do: Postgres believes
        a table that it has not analyzed yet to hold ten times the points that it holds.
        """
        known = self._sizes.get(collection.id)
        if known is None:
            known = await self._store.sizes(collection, at_most=exact_to + 1)
            if known.points > exact_to:
                guess = await self._store.estimate(collection)
                known = Sizes(max(known.points, guess), known.recall)
            self._sizes.put(collection.id, known)
        return known

    async def matches(
        self, collection: Collection, filter_: Node, *, at_most: int, rows: int
    ) -> int:
        """Return how many points match a filter; `at_most` or more if there are more.

        How many more counts where an index has lists: how many are to be looked into
        follows from it.

        Args:
            collection: The collection.
            filter_: The filter.
            at_most: Up to where they are counted.
            rows: Number of points in the collection.
        """
        key = (collection.id, filter_, at_most)
        known = self._matches.get(key)
        if known is None:
            known = await self._store.count_matches(collection, filter_, at_most=at_most)
            if known == at_most and collection.index.kind is IndexKind.IVFFLAT:
                guess = await self._store.estimate_matches(collection, filter_, rows=rows)
                known = max(known, guess)
            self._matches.put(key, known)
        return known

    def forget(self, collection: Collection) -> None:
        """Read a collection's sizes anew next time: something was measured."""
        self._sizes.drop(collection.id)
