"""Sizes that a search is planned by: read from the store, believed for a short time."""

from vector_svc.cache import Cache
from vector_svc.model import Collection
from vector_svc.ports import PointStore


class Estimates:
    """Numbers of points, and of matches of filters.

    Args:
        points: Where they are read.
        cache_entries: Filters remembered; as many collections besides.
        cache_seconds: How long a number is believed.
    """

    def __init__(self, points: PointStore, *, cache_entries: int, cache_seconds: float) -> None:
        self._points = points
        self._rows: Cache[int, int] = Cache(capacity=cache_entries, ttl_seconds=cache_seconds)
        self._matches: Cache[tuple[int, bytes, int], int] = Cache(
            capacity=cache_entries, ttl_seconds=cache_seconds
        )

    async def rows(self, collection: Collection) -> int:
        """Return the number of points in a collection, more or less."""
        known = self._rows.get(collection.id)
        if known is None:
            known = await self._points.estimate(collection)
            self._rows.put(collection.id, known)
        return known

    async def matches(self, collection: Collection, filter_: bytes, *, at_most: int) -> int:
        """Return how many points match a filter; `at_most` if there are more."""
        key = (collection.id, filter_, at_most)
        known = self._matches.get(key)
        if known is None:
            known = await self._points.count_matches(collection, filter_, at_most=at_most)
            self._matches.put(key, known)
        return known
