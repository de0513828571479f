"""Whole collections in and out of Postgres, by COPY."""

import math
from collections.abc import AsyncIterator, Callable
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from stepwire.db import load_queries, retryable
from stepwire.errors import Reason, StepwireError
from vector_svc.collections.store import (
    NameTakenError,
    check_name_free,
    ensure_role,
    make_unnamed,
    take_name,
)
from vector_svc.engine.records import Collection, CollectionConfig, Element, Metric
from vector_svc.snapshots.format import invalid
from vector_svc.snapshots.ports import Sink
from vector_svc.snapshots.rows import COLUMNS
from vector_svc.store.codecs import whole
from vector_svc.store.database import OWNER, Database
from vector_svc.store.statements import LIVE

queries = load_queries("vector_svc", "sql/snapshots.sql")

# Who calls ends what stands still; no statement is too long by itself.
UNBOUNDED: Final = math.inf

# What Postgres says of bytes that are no rows of a table, among it what it says of a client
# that does not know its protocol.
_UNREADABLE: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.InternalServerError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.ProtocolViolationError,
)

# Lengths whose squares leave float32.
_MAX_LENGTH: Final = 1.8e19
_MISCOUNTED: Final = "it has points that could not be stored, or fewer than it says"
# Postgres takes up to so many bytes for one of JSON: 12 for each "1,".
_BYTES_PER_JSON_BYTE: Final = 6


class PostgresSnapshots:
    """A `SnapshotStore`.

    Args:
        database: Where; snapshots keep its connections for as long as they take.
        payload_max_bytes: Largest payload of a point.
    """

    def __init__(self, database: Database, *, payload_max_bytes: int) -> None:
        self._database = database
        self._payload_max_bytes = payload_max_bytes

    @retryable(attempts=1)
    async def dump(self, collection: Collection, sink: Sink) -> int:
        """Not tried again: what was given cannot be taken back."""
        async with self._database.connection("dump", collection.tenant_id) as connection:
            status: str = await connection.copy_from_query(
                queries.dump.format(collection_id=int(collection.id), live=LIVE),
                output=sink,
                format="binary",
                timeout=UNBOUNDED,
            )
        return int(status.rpartition(" ")[2])

    @retryable(attempts=1)
    async def restore(
        self,
        tenant_id: str,
        config: CollectionConfig,
        rows: AsyncIterator[bytes],
        expected: Callable[[], int],
    ) -> None:
        await ensure_role(self._database, tenant_id)
        try:
            async with (
                self._database.connection("restore", OWNER) as connection,
                connection.transaction(),
            ):
                await check_name_free(connection, tenant_id, config.name)
                collection = await make_unnamed(connection, tenant_id, config)
                copied = 0
                async for piece in rows:
                    copied += await self._copy(connection, collection, piece)
                if copied != expected():
                    raise invalid("rows", _MISCOUNTED)
                # Last, since whoever wants the same name waits for who has taken it.
                await take_name(connection, collection)
        except NameTakenError:
            raise StepwireError(
                Reason.COLLECTION_EXISTS,
                f"{config.name!r} is the name of a collection or an alias already",
                metadata={"collection": config.name},
            ) from None

    async def _copy(
        self, connection: PoolConnectionProxy, collection: Collection, rows: bytes
    ) -> int:
        """Write some rows, without those that no upsert would have let in; return their number."""
        try:
            status: str = await connection.copy_to_table(
                f"points_{collection.id}",
                schema_name="vector",
                source=whole(rows),
                columns=COLUMNS,
                format="binary",
                where=self._fit(collection),
                timeout=UNBOUNDED,
            )
        except _UNREADABLE as error:
            raise invalid("rows", "its rows are not those of such a collection") from error
        return int(status.rpartition(" ")[2])

    def _fit(self, collection: Collection) -> str:
        """Return the condition that holds for points that could be stored."""
        config = collection.config
        length, least = "1", 0.0
        if config.element is not Element.BINARY:
            halved = config.element is Element.FLOAT16
            length = "l2_norm(embedding)" if halved else "vector_norm(embedding)"
            least = 0.0 if config.metric is Metric.COSINE else -1.0
        return queries.fit.format(
            payload_bytes=int(self._payload_max_bytes) * _BYTES_PER_JSON_BYTE,
            length=length,
            least=float(least),
            most=_MAX_LENGTH,
        )
