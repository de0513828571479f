"""Whole collections in and out of Postgres, by COPY."""

from collections.abc import AsyncIterator, Callable
from typing import Final

import asyncpg

from stepwire.db import load_queries, retryable
from stepwire.errors import Reason, StepwireError
from vector_svc.collections.store import NameTakenError, ensure_role, make
from vector_svc.engine.records import Collection, CollectionConfig, Element, Metric
from vector_svc.snapshots.format import invalid
from vector_svc.snapshots.ports import Sink
from vector_svc.store.database import OWNER, Database
from vector_svc.store.statements import LIVE

queries = load_queries("vector_svc", "sql/snapshots.sql")

COLUMNS: Final = ("id", "embedding", "payload", "updated_at", "expires_at")

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


class PostgresSnapshots:
    """A `SnapshotStore`.

    Args:
        database: Where.
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
                timeout=self._database.statement_seconds,
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
                collection = await make(connection, tenant_id, config, index_now=False)
                if await self._copy(connection, collection, rows) != expected():
                    raise invalid("damaged", "it has another number of rows than it says")
                await self._check(connection, collection)
        except NameTakenError:
            raise StepwireError(
                Reason.COLLECTION_EXISTS,
                f"{config.name!r} is the name of a collection or an alias already",
                metadata={"collection": config.name},
            ) from None

    async def _copy(
        self,
        connection: asyncpg.pool.PoolConnectionProxy,
        collection: Collection,
        rows: AsyncIterator[bytes],
    ) -> int:
        try:
            status: str = await connection.copy_to_table(
                f"points_{collection.id}",
                schema_name="vector",
                source=rows,
                columns=COLUMNS,
                format="binary",
                timeout=self._database.statement_seconds,
            )
        except _UNREADABLE as error:
            raise invalid("rows", "its rows are not those of such a collection") from error
        return int(status.rpartition(" ")[2])

    async def _check(
        self, connection: asyncpg.pool.PoolConnectionProxy, collection: Collection
    ) -> None:
        """Refuse points that no upsert would have let in."""
        length = "0"
        least, most = -1.0, _MAX_LENGTH
        if collection.config.element is not Element.BINARY:
            halved = collection.config.element is Element.FLOAT16
            length = "l2_norm(embedding)" if halved else "vector_norm(embedding)"
            if collection.config.metric is Metric.COSINE:
                least = 0.0
        found = await connection.fetchval(
            queries.find_unfit.format(collection_id=int(collection.id), length=length),
            self._payload_max_bytes,
            least,
            most,
            timeout=self._database.statement_seconds,
        )
        if found is not None:
            raise invalid("rows", f"point {found[:80]!r} is not one that could be stored")
