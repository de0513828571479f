"""Searches in Postgres: one statement per way."""

from typing import Any, Final

import asyncpg
import orjson

from stepwire.db import retryable
from vector_svc.engine.records import Collection, Match, Matrix
from vector_svc.points.store import point_of
from vector_svc.search.planner import Plan
from vector_svc.store.codecs import encode_vectors
from vector_svc.store.database import Database
from vector_svc.store.statements import search_statement

MAX_EF_SEARCH: Final = 1_000


class PostgresSearches:
    """A `SearchStore`.

    Args:
        database: Where.
        hnsw_ef_search: Candidates kept during a search, unless it wants more points.
        hnsw_max_scan_tuples: Points that a walk of the index looks at before it gives up.
    """

    def __init__(
        self, database: Database, *, hnsw_ef_search: int, hnsw_max_scan_tuples: int
    ) -> None:
        self._database = database
        self._hnsw_ef_search = hnsw_ef_search
        self._hnsw_max_scan_tuples = hnsw_max_scan_tuples

    async def count(self, collection: Collection, *, at_most: int) -> int:
        """Return the exact number of points, `at_most` if there are more."""
        [row] = await self._fetch("count_up_to", collection, at_most)
        return int(row[0])

    async def estimate(self, collection: Collection) -> int:
        """Return the number of points, more or less, without counting."""
        [row] = await self._fetch("estimate_points", collection)
        [explained] = orjson.loads(row[0])
        return int(explained["Plan"]["Plan Rows"])

    async def count_matches(self, collection: Collection, filter_: bytes, *, at_most: int) -> int:
        """Return the number of points that match a filter, `at_most` if there are more."""
        [row] = await self._fetch("count_matches", collection, filter_, at_most)
        return int(row[0])

    async def search(
        self,
        collection: Collection,
        vector: Matrix,
        *,
        plan: Plan,
        limit: int,
        filter_: bytes | None,
        include_vectors: bool,
    ) -> list[Match]:
        """Return the nearest points, nearest first."""
        [encoded] = encode_vectors(vector)
        arguments: list[Any] = [encoded, limit, include_vectors]
        if plan is not Plan.EXACT:
            ef_search = min(max(self._hnsw_ef_search, limit), MAX_EF_SEARCH)
            arguments += [str(ef_search), str(self._hnsw_max_scan_tuples)]
        if filter_ is not None:
            arguments.append(filter_)
        rows = await self._fetch(_SEARCHES[plan, filter_ is not None], collection, *arguments)
        return [Match(point_of(row), row["distance"]) for row in rows]

    @retryable()
    async def _fetch(
        self, name: str, collection: Collection, *arguments: Any
    ) -> list[asyncpg.Record]:
        statement = search_statement(name, collection.id, collection.config.metric)
        async with self._database.connection(name) as connection:
            return await connection.fetch(
                statement, *arguments, timeout=self._database.statement_seconds
            )


_SEARCHES = {
    (Plan.EXACT, False): "search_exact",
    (Plan.EXACT, True): "search_exact_filtered",
    (Plan.INDEX, False): "search_index",
    (Plan.ITERATIVE, True): "search_iterative",
}
