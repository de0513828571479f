"""The building of vector indexes, each on a connection of its own."""

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final
from uuid import UUID

import asyncpg

from stepwire.db import load_queries
from vector_svc.collections.store import built_argument, collection_of
from vector_svc.engine.records import Collection, IndexKind
from vector_svc.indexes.records import BuildState
from vector_svc.store.codecs import set_codecs
from vector_svc.store.database import OWNER, Database
from vector_svc.store.index_ddl import create_index, index_name, lists_of
from vector_svc.store.statements import points_statement

queries = load_queries("vector_svc", "sql/indexes.sql")

CONNECT_SECONDS: Final = 10.0
# Longest wait for those who use the table of an index that nobody needs.
DROP_SECONDS: Final = 5.0
_KIBIBYTE: Final = 1024

logger = logging.getLogger(__name__)


class _EndedError(Exception):
    """A caller has ended a build before Postgres had begun to make the index."""


class PostgresWorks:
    """Finds what there is to build, and builds it: see `vector_svc.indexes.ports.Works`.

    Args:
        database: Where it is looked for.
        url: Of the database, for the connections that build.
        workers: Processes that Postgres may add to a build.
    """

    def __init__(self, database: Database, url: str, *, workers: int) -> None:
        self._database = database
        self._url = url
        self._workers = workers

    async def unindexed(self) -> Sequence[Collection]:
        """Return collections that have become large enough for their index."""
        due: list[Collection] = []
        async with self._database.connection("unindexed", OWNER) as connection:
            for row in await connection.fetch(queries.unindexed):
                collection = collection_of(row)
                wanted = collection.config.index.min_points
                try:
                    rows = await connection.fetchval(_count(collection), wanted)
                except asyncpg.UndefinedTableError:
                    continue  # deleted meanwhile
                if rows >= wanted:
                    due.append(collection)
        return due

    async def tidy(self) -> None:
        """Drop what builds that have ended could not drop, as on a full disk."""
        async with self._database.connection("leftovers", OWNER) as connection:
            for row in await connection.fetch(queries.leftovers):
                statement = f"DROP INDEX CONCURRENTLY IF EXISTS vector.{row['name']}"
                try:
                    await connection.execute(statement, timeout=DROP_SECONDS)
                except (asyncpg.PostgresError, TimeoutError) as error:
                    # Its turn comes again; builds must not wait for that.
                    logger.warning(
                        "an unfinished index was not dropped", extra={"cause": repr(error)}
                    )

    async def open(self) -> Sequence[UUID]:
        """Return the builds that have not ended, the oldest first."""
        async with self._database.connection("open_builds", OWNER) as connection:
            rows = await connection.fetch(queries.open_builds_of_all)
        return [row["build_id"] for row in rows]

    async def build(self, build_id: UUID) -> BuildState | None:
        """Build, unless another instance does; return how it ended, None if it did not.

        When this is cut off, the build stays RUNNING and without a lock: who comes next
        begins it again.
        """
        async with self._connection() as connection:
            if not await connection.fetchval(queries.lock_build, str(build_id)):
                return None
            started = await connection.fetchrow(queries.start_build, build_id)
            if started is None:
                return None
            row = await connection.fetchrow(queries.get_collection, started["collection_id"])
            if row is None:
                return None
            return await self._carry_out(
                connection, build_id, collection_of(row), started["memory_bytes"]
            )

    async def _carry_out(
        self,
        connection: asyncpg.Connection,
        build_id: UUID,
        collection: Collection,
        memory_bytes: int,
    ) -> BuildState | None:
        state, failure = BuildState.SUCCEEDED, ""
        try:
            await self._make(connection, build_id, collection, memory_bytes)
        except _EndedError:
            return BuildState.CANCELLED
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError as error:
            # The statement's own words: of memory, disk, or that it was cancelled.
            logger.warning("index build failed", extra={"cause": repr(error)})
            state, failure = BuildState.FAILED, str(error)
            with suppress(asyncpg.PostgresError):  # `tidy` does it as soon as it can be done
                await _drop_indexes(connection, collection.id, valid=False)
        ended = await connection.fetchval(queries.end_build, build_id, state.value, failure)
        return BuildState(ended) if ended else BuildState.CANCELLED

    async def _make(
        self,
        connection: asyncpg.Connection,
        build_id: UUID,
        collection: Collection,
        memory_bytes: int,
    ) -> None:
        """Make the new index beside the old one, and drop that when it is there.

        One that was cut off when its index was there already has left it to be used.
        """
        await _drop_indexes(connection, collection.id, valid=False)
        wanted = collection.config.index
        name, built = _name_of(collection, build_id), None
        if wanted.kind is not IndexKind.NONE:
            rows = await connection.fetchval(_count(collection), None)
            if await connection.fetchval(queries.find_running, build_id) is None:
                raise _EndedError
            if name not in await _indexes(connection, collection.id, valid=True):
                statement = create_index(collection, rows=rows, name=name)
                await self._create(connection, collection, statement, memory_bytes)
            lists = lists_of(wanted, rows=rows) if wanted.kind is IndexKind.IVFFLAT else 0
            built = built_argument(replace(wanted, lists=lists))
        await connection.execute(queries.set_index_built, collection.id, built)
        for other in await _indexes(connection, collection.id, valid=True):
            if other != name:
                await connection.execute(f"DROP INDEX CONCURRENTLY vector.{other}")
        await connection.execute(f"ANALYZE vector.points_{int(collection.id)}")

    async def _create(
        self,
        connection: asyncpg.Connection,
        collection: Collection,
        statement: str,
        memory_bytes: int,
    ) -> None:
        memory = f"{memory_bytes // _KIBIBYTE}kB"
        await connection.execute(queries.set_memory, memory, str(self._workers))
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientResourcesError:
            if not self._workers:
                raise
            # Several processes need shared memory, of which there may be little.
            await _drop_indexes(connection, collection.id, valid=False)
            await connection.execute(queries.set_memory, memory, "0")
            await connection.execute(statement)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "stepwire-vector-index"},
        )
        try:
            await set_codecs(connection)
            yield connection
        finally:
            connection.terminate()


def _name_of(collection: Collection, build_id: UUID) -> str:
    """Return the name of the index that a build makes of a collection as it is now."""
    made_of = build_id.bytes + built_argument(collection.config.index)
    digest = hashlib.md5(made_of, usedforsecurity=False).hexdigest()
    return index_name(collection.id, digest)


def _count(collection: Collection) -> str:
    return points_statement(
        "count_where", collection.id, collection.config.element, condition="TRUE"
    )


async def _indexes(connection: asyncpg.Connection, collection_id: int, *, valid: bool) -> list[str]:
    rows = await connection.fetch(queries.vector_indexes, collection_id)
    return [row["name"] for row in rows if row["valid"] is valid]


async def _drop_indexes(connection: asyncpg.Connection, collection_id: int, *, valid: bool) -> None:
    for name in await _indexes(connection, collection_id, valid=valid):
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS vector.{name}")
