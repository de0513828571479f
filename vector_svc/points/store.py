"""Points in Postgres: one table per collection."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from stepwire.db import retryable
from stepwire.errors import Reason, StepwireError, field_invalid, payload_too_large
from vector_svc.engine.fields import FIELD_RULES
from vector_svc.engine.records import (
    Collection,
    Element,
    FieldType,
    PointBatch,
    StoredPoint,
    UpsertMode,
    Written,
)
from vector_svc.filters.compile import compile_filter
from vector_svc.points.records import ChangeKind, Facet, PayloadChange, Selection
from vector_svc.store.codecs import copy_rows, decode_vector, encode_vectors, whole
from vector_svc.store.database import Database
from vector_svc.store.statements import points_statement

COLUMNS: Final = ("id", "embedding", "payload", "expires_at")

_UPSERTS: Final = {
    UpsertMode.UPSERT: "upsert",
    UpsertMode.INSERT_ONLY: "insert_only",
    UpsertMode.UPDATE_ONLY: "update_only",
}
_CHANGES: Final = {
    ChangeKind.SET: "$1::jsonb",
    ChangeKind.MERGE: "points.payload || $1::jsonb",
    ChangeKind.REMOVE: "points.payload - $1::text[]",
}
_FIELD_CONSTRAINT: Final = "field_"
_OBJECT_CONSTRAINT: Final = "payload_is_object"
# What Postgres says of bytes that are not JSON, or hold what it cannot store.
_NOT_STORED: Final = (
    asyncpg.CharacterNotInRepertoireError,
    asyncpg.InvalidTextRepresentationError,
    asyncpg.NumericValueOutOfRangeError,
    asyncpg.UntranslatableCharacterError,
)


class PostgresPoints:
    """A `PointStore`.

    Args:
        database: Where.
        payload_max_bytes: Largest payload of a point.
    """

    def __init__(self, database: Database, *, payload_max_bytes: int) -> None:
        self._database = database
        self._payload_max_bytes = payload_max_bytes

    @retryable()
    async def upsert(self, collection: Collection, batch: PointBatch, mode: UpsertMode) -> Written:
        name = _UPSERTS[mode]
        vectors = encode_vectors(batch.vectors, collection.config.element)
        arguments = (batch.ids, vectors, batch.payloads, batch.expires)
        async with self._connection(name, collection) as connection:
            if not any(batch.hashes):
                return await self._write(connection, name, collection, *arguments)
            async with connection.transaction():
                await self._check_hashes(connection, collection, batch, vectors)
                return await self._write(connection, name, collection, *arguments)

    @retryable()
    async def load(
        self, collection: Collection, batch: PointBatch, *, turn: Awaitable[object] | None
    ) -> Written:
        """Write by COPY; where some of the points exist already, by way of a staging table."""
        rows = await asyncio.to_thread(_rows_of, batch, collection.config.element)
        if turn is not None:
            await turn
        async with self._connection("load", collection) as connection:
            try:
                await self._copy(connection, rows, collection, staged=False)
            except asyncpg.UniqueViolationError:
                pass
            else:
                return Written(len(batch.ids), len(batch.ids), 0)
            async with connection.transaction():
                await connection.execute(_statement("stage", collection))
                await self._copy(connection, rows, collection, staged=True)
                return await self._write(connection, "upsert_staged", collection)

    @retryable()
    async def get(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        include_vectors: bool,
        include_hashes: bool,
    ) -> list[StoredPoint]:
        rows = await self._fetch(
            "get", collection, _statement("get", collection), ids, include_vectors, include_hashes
        )
        return [point_of(row, collection.config.element) for row in rows]

    @retryable()
    async def delete(self, collection: Collection, selection: Selection) -> int:
        condition, arguments = _where(collection, selection, first=1)
        statement = _selecting("delete", collection, condition)
        [row] = await self._fetch("delete", collection, statement, *arguments)
        return int(row[0])

    @retryable()
    async def update_payloads(
        self, collection: Collection, selection: Selection, change: PayloadChange
    ) -> int:
        condition, arguments = _where(collection, selection, first=3)
        statement = _selecting(
            "update_payloads", collection, condition, change=_CHANGES[change.kind]
        )
        value = list(change.names) if change.kind is ChangeKind.REMOVE else change.payload
        # Only merging makes a payload that was not looked at yet.
        limit = self._payload_max_bytes if change.kind is ChangeKind.MERGE else None
        [row] = await self._fetch(
            "update_payloads", collection, statement, value, limit, *arguments
        )
        updated, too_large, size = row
        if too_large is not None:
            error = payload_too_large("merge", size_bytes=size, limit_bytes=self._payload_max_bytes)
            error.metadata["point_id"] = too_large
            raise error
        return int(updated)

    @retryable()
    async def scroll(
        self,
        collection: Collection,
        selection: Selection,
        *,
        after: str,
        limit: int,
        include_vectors: bool,
    ) -> list[StoredPoint]:
        condition, arguments = _where(collection, selection, first=4)
        statement = _selecting("scroll", collection, condition)
        rows = await self._fetch(
            "scroll", collection, statement, after, limit, include_vectors, *arguments
        )
        return [point_of(row, collection.config.element) for row in rows]

    @retryable()
    async def count(
        self, collection: Collection, selection: Selection, *, at_most: int | None
    ) -> int:
        condition, arguments = _where(collection, selection, first=2)
        statement = _selecting("count_where", collection, condition)
        [row] = await self._fetch("count", collection, statement, at_most, *arguments)
        return int(row[0])

    @retryable()
    async def facet(
        self, collection: Collection, selection: Selection, *, field: str, limit: int
    ) -> list[Facet]:
        condition, arguments = _where(collection, selection, first=3)
        statement = _selecting("facet", collection, condition)
        rows = await self._fetch("facet", collection, statement, field, limit, *arguments)
        return [Facet(row["value"], row["points"]) for row in rows]

    def _connection(self, name: str, collection: Collection) -> Any:
        return self._database.connection(name, collection.tenant_id)

    async def _fetch(
        self, name: str, collection: Collection, statement: str, *arguments: Any
    ) -> list[asyncpg.Record]:
        async with self._connection(name, collection) as connection:
            with _refusals(collection):
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, *arguments, timeout=self._database.statement_seconds
                )
        return rows

    async def _write(
        self, connection: PoolConnectionProxy, name: str, collection: Collection, *arguments: Any
    ) -> Written:
        with _refusals(collection):
            row = await connection.fetchrow(
                _statement(name, collection),
                *arguments,
                timeout=self._database.statement_seconds,
            )
        assert row is not None, "an aggregate has one row"
        return Written(row["upserted"], row["inserted"], row["updated"])

    async def _copy(
        self, connection: PoolConnectionProxy, rows: bytes, collection: Collection, *, staged: bool
    ) -> None:
        with _refusals(collection):
            await connection.copy_to_table(
                "staged" if staged else f"points_{collection.id}",
                schema_name=None if staged else "vector",
                source=whole(rows),
                columns=COLUMNS,
                format="binary",
                timeout=self._database.statement_seconds,
            )

    async def _check_hashes(
        self,
        connection: PoolConnectionProxy,
        collection: Collection,
        batch: PointBatch,
        vectors: Sequence[bytes],
    ) -> None:
        """Lock all points of the batch, and see that those with a hash are stored with it.

        One that is stored as the batch has it is no other one: the batch may come again
        because its answer was lost.
        """
        with _refusals(collection):
            rows = await connection.fetch(
                _statement("lock_hashes", collection), batch.ids, vectors, batch.payloads
            )
        found = {row["id"]: row for row in rows}
        for point_id, wanted in zip(batch.ids, batch.hashes, strict=True):
            row = found.get(point_id)
            if not wanted or (row and (row["same"] or row["content_hash"] == wanted)):
                continue
            raise StepwireError(
                Reason.POINT_CHANGED,
                f"point {point_id!r} is not stored with the hash {wanted!r}",
                metadata={"collection": collection.config.name, "point_id": point_id},
            )


def point_of(row: asyncpg.Record, element: Element) -> StoredPoint:
    """Read a point from a row; it has an id, a payload and an embedding at least."""
    embedding = row["embedding"]
    return StoredPoint(
        id=row["id"],
        payload=row["payload"],
        vector=None if embedding is None else decode_vector(embedding, element),
        content_hash=row.get("content_hash", ""),
        expires_at=row.get("expires_at"),
    )


def _rows_of(batch: PointBatch, element: Element) -> bytes:
    vectors = encode_vectors(batch.vectors, element)
    return copy_rows(batch.ids, vectors, batch.payloads, batch.expires)


def _statement(name: str, collection: Collection) -> str:
    return points_statement(name, collection.id, collection.config.element)


def _selecting(name: str, collection: Collection, condition: str, **parts: str) -> str:
    return points_statement(
        name, collection.id, collection.config.element, condition=condition, **parts
    )


def _where(
    collection: Collection, selection: Selection, *, first: int
) -> tuple[str, tuple[object, ...]]:
    """Return the condition for a selection, and its parameters from number `first` on."""
    if selection.ids is not None:
        return f"points.id = ANY (${first}::text[])", (selection.ids,)
    compiled = compile_filter(selection.filter, collection, first=first)
    return compiled.sql, compiled.arguments


@contextmanager
def _refusals(collection: Collection) -> Iterator[None]:
    """Turn what Postgres refuses of payloads into what the caller is told."""
    try:
        yield
    except asyncpg.CheckViolationError as error:
        constraint = error.constraint_name or ""
        if constraint == _OBJECT_CONSTRAINT:
            raise field_invalid("payload", "must be an object") from error
        name = constraint.removeprefix(_FIELD_CONSTRAINT)
        rule = FIELD_RULES[collection.config.fields.get(name, FieldType.TEXT)]
        raise field_invalid(f"payload.{name}", rule) from error
    except _NOT_STORED as error:
        raise field_invalid("payload", "is not JSON that can be stored") from error
    except asyncpg.ProgramLimitExceededError as error:
        text = collection.config.text
        if text is not None and "tsvector" in str(error):
            raise field_invalid(f"payload.{text.field}", "has too many words") from error
        raise field_invalid("payload", "is nested too deeply, or too large") from error
