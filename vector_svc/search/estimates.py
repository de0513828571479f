"""Sizes that a search is planned by: read from the store, believed for a short time."""

from vector_svc.engine.cache import Cache
from vector_svc.engine.records import Collection
from vector_svc.search.ports import SearchStore


class Estimates:
    """Numbers of points, and of matches of filters.

    Args:
        store: Where they are read.
        cache_entries: Filters remembered; as many collections besides.
        cache_seconds: How long a number is believed.
    """

    def __init__(self, store: SearchStore, *, cache_entries: int, cache_seconds: float) -> None:
        self._store = store
        self._rows: Cache[int, int] = Cache(capacity=cache_entries, ttl_seconds=cache_seconds)
        self._matches: Cache[tuple[int, bytes, int], int] = Cache(
            capacity=cache_entries, ttl_seconds=cache_seconds
        )

    async def rows(self, collection: Collection, *, exact_to: int) -> int:
        """Return the number of points in a collection: up to `exact_to` exact, then a guess.

        The guess alone does not do: Postgres believes a table that it has not analyzed yet
        to hold ten times the points that it holds.
        """
        known = self._rows.get(collection.id)
        if known is None:
            known = await self._store.count(collection, at_most=exact_to + 1)
            if known > exact_to:
                known = max(known, await self._store.estimate(collection))
            self._rows.put(collection.id, known)
        return known

    async def matches(self, collection: Collection, filter_: bytes, *, at_most: int) -> int:
        """Return how many points match a filter; `at_most` if there are more."""
        key = (collection.id, filter_, at_most)
        known = self._matches.get(key)
        if known is None:
            known = await self._store.count_matches(collection, filter_, at_most=at_most)
            self._matches.put(key, known)
        return known
