"""Points in Postgres: one table per collection."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from stepwire.db import retryable
from vector_svc.engine.records import Collection, PointBatch, StoredPoint
from vector_svc.store.codecs import decode_vector, encode_vectors
from vector_svc.store.database import Database
from vector_svc.store.statements import points_statement


class PostgresPoints:
    """A `PointStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, collection: Collection, batch: PointBatch) -> None:
        """Write all points of the batch, or none."""
        vectors = encode_vectors(batch.vectors)
        await self._fetch("upsert", collection, batch.ids, vectors, batch.payloads)

    async def get(
        self, collection: Collection, ids: Sequence[str], *, include_vectors: bool
    ) -> list[StoredPoint]:
        """Return the points that exist, in no particular order."""
        return [point_of(row) for row in await self._fetch("get", collection, ids, include_vectors)]

    async def delete(self, collection: Collection, ids: Sequence[str]) -> int:
        """Delete the points that exist; return their number."""
        [row] = await self._fetch("delete", collection, ids)
        return int(row[0])

    @retryable()
    async def _fetch(
        self, name: str, collection: Collection, *arguments: Any
    ) -> list[asyncpg.Record]:
        statement = points_statement(name, collection.id, collection.config.metric)
        async with self._database.connection(name) as connection:
            return await connection.fetch(
                statement, *arguments, timeout=self._database.statement_seconds
            )


def point_of(row: asyncpg.Record) -> StoredPoint:
    """Read a point from a row with id, payload and embedding."""
    embedding = row["embedding"]
    return StoredPoint(
        id=row["id"],
        payload=row["payload"],
        vector=None if embedding is None else decode_vector(embedding),
    )
