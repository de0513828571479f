"""Expired points in Postgres."""

import logging
from typing import Final

import asyncpg

from stepwire.db import load_queries
from stepwire.db.pool import CONFLICT_ERRORS
from vector_svc.store.database import OWNER, Database
from vector_svc.store.statements import points_statement

queries = load_queries("vector_svc", "sql/sweeping.sql")

# Others have a collection's points for themselves.
_HELD: Final[tuple[type[Exception], ...]] = (TimeoutError, *CONFLICT_ERRORS)

logger = logging.getLogger(__name__)


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
                    except _HELD as error:
                        # Its turn comes again; those behind it must not wait for that.
                        logger.warning(
                            "a collection was not swept",
                            extra={"collection": row["collection_id"], "cause": repr(error)},
                        )
            finally:
                await connection.fetchval(queries.unlock)
        return removed
