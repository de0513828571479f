"""Lists of memories in Postgres."""

from datetime import datetime
from typing import Any, Final

import asyncpg

from stepwire.db import load_queries, retryable
from vector_svc.engine.records import Collection, StoredPoint
from vector_svc.filters.compile import compile_filter
from vector_svc.filters.records import Node
from vector_svc.memories.records import MemorySpace
from vector_svc.store.database import Database
from vector_svc.store.statements import LIVE

queries = load_queries("vector_svc", "sql/memories.sql")

# Parameters of each statement before those of the filter.
_BEFORE_FILTER: Final = {"latest": 3, "spaces": 2}


class PostgresMemories:
    """A `MemoryStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(
        self,
        collection: Collection,
        node: Node,
        *,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[tuple[StoredPoint, datetime]]:
        time, point_id = before or (None, None)
        rows = await self._fetch("latest", collection, node, time, point_id, limit)
        return [
            (
                StoredPoint(row["id"], row["payload"], None, expires_at=row["expires_at"]),
                row["time"],
            )
            for row in rows
        ]

    async def spaces(
        self, collection: Collection, node: Node, *, after: str | None, limit: int
    ) -> list[MemorySpace]:
        rows = await self._fetch("spaces", collection, node, after, limit)
        return [MemorySpace(**row) for row in rows]

    @retryable()
    async def _fetch(
        self, name: str, collection: Collection, node: Node, *arguments: Any
    ) -> list[asyncpg.Record]:
        compiled = compile_filter(node, collection, first=_BEFORE_FILTER[name] + 1)
        statement = queries[name].format(
            collection_id=int(collection.id), condition=compiled.sql, live=LIVE
        )
        async with self._database.connection(f"memories_{name}", collection.tenant_id) as lent:
            return await lent.fetch(
                statement,
                *arguments,
                *compiled.arguments,
                timeout=self._database.statement_seconds,
            )
