"""Expired points in Postgres."""

import asyncpg

from stepwire.db import load_queries
from vector_svc.store.database import OWNER, Database
from vector_svc.store.statements import points_statement

queries = load_queries("vector_svc", "sql/sweeping.sql")


class PostgresSweep:
    """A `SweepStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self, *, batch: int) -> int:
        removed = 0
        async with self._database.connection("sweep", OWNER) as connection:
            if not await connection.fetchval(queries.try_lock):
                return 0
            try:
                for row in await connection.fetch(queries.collection_ids):
                    statement = points_statement("sweep", row["collection_id"])
                    try:
                        removed += await connection.fetchval(
                            statement, batch, timeout=self._database.statement_seconds
                        )
                    except asyncpg.UndefinedTableError:
                        continue  # deleted meanwhile
            finally:
                await connection.fetchval(queries.unlock)
        return removed
