"""Collections in Postgres: a row in `vector.collections` and a table of points each."""

import asyncpg

from stepwire.db import retryable
from vector_svc.engine.ports import CollectionGoneError
from vector_svc.engine.records import Collection, CollectionConfig, Metric, SizedCollection
from vector_svc.store import statements
from vector_svc.store.database import Database
from vector_svc.store.statements import QUERIES


class PostgresCollections:
    """A `CollectionStore`.

    Args:
        database: Where.
        hnsw_m: The index's `m` of new collections.
        hnsw_ef_construction: The index's `ef_construction` of new collections.
    """

    def __init__(self, database: Database, *, hnsw_m: int, hnsw_ef_construction: int) -> None:
        self._database = database
        self._hnsw_m = hnsw_m
        self._hnsw_ef_construction = hnsw_ef_construction

    @retryable()
    async def create(self, tenant_id: str, config: CollectionConfig) -> Collection:
        """Make the collection, or return the one of this name that exists.

        Of several at once one inserts the row and the others wait for its commit. The one
        that exists may be deleted before it is read; then it is made after all.
        """
        while True:
            made = await self._insert(tenant_id, config)
            collection = made or await self.find(tenant_id, config.name)
            if collection is not None:
                return collection

    @retryable()
    async def find(self, tenant_id: str, name: str) -> Collection | None:
        """Return the collection, None if there is none."""
        async with self._database.connection("find_collection") as connection:
            row = await connection.fetchrow(QUERIES.find_collection, tenant_id, name)
        return None if row is None else _collection(row)

    @retryable()
    async def page(self, tenant_id: str, *, after: str, limit: int) -> list[SizedCollection]:
        """Return up to `limit` collections whose names come after `after`, by name.

        A collection deleted between the two statements makes them begin again.
        """
        while True:
            try:
                return await self._page(tenant_id, after, limit)
            except CollectionGoneError:
                continue

    @retryable()
    async def delete(self, tenant_id: str, name: str) -> bool:
        """Delete the collection and its points; False if there was none.

        Waits for the statements that use its points, and lets later ones wait for it.
        """
        async with (
            self._database.connection("delete_collection") as connection,
            connection.transaction(),
        ):
            collection_id = await connection.fetchval(QUERIES.delete_collection, tenant_id, name)
            if collection_id is None:
                return False
            await connection.execute(statements.drop_points(collection_id))
            return True

    @retryable()
    async def count(self, collection: Collection) -> int:
        """Return the exact number of its points."""
        statement = statements.points_statement(
            "count_points", collection.id, collection.config.metric
        )
        async with self._database.connection("count_points") as connection:
            count: int = await connection.fetchval(
                statement, timeout=self._database.statement_seconds
            )
        return count

    async def _insert(self, tenant_id: str, config: CollectionConfig) -> Collection | None:
        async with (
            self._database.connection("create_collection") as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(
                QUERIES.insert_collection,
                tenant_id,
                config.name,
                config.dimension,
                config.metric.value,
            )
            if row is None:
                return None
            collection = _collection(row)
            await connection.execute(
                statements.create_points(
                    collection.id,
                    dimension=config.dimension,
                    metric=config.metric,
                    m=self._hnsw_m,
                    ef_construction=self._hnsw_ef_construction,
                )
            )
            return collection

    async def _page(self, tenant_id: str, after: str, limit: int) -> list[SizedCollection]:
        async with self._database.connection("page_of_collections") as connection:
            rows = await connection.fetch(QUERIES.page_of_collections, tenant_id, after, limit)
            if not rows:
                return []
            found = [_collection(row) for row in rows]
            counted = await connection.fetch(
                statements.count_points([collection.id for collection in found]),
                timeout=self._database.statement_seconds,
            )
        counts: dict[int, int] = {row["collection_id"]: row["point_count"] for row in counted}
        return [SizedCollection(collection, counts[collection.id]) for collection in found]


def _collection(row: asyncpg.Record) -> Collection:
    config = CollectionConfig(row["name"], row["dimension"], Metric(row["metric"]))
    return Collection(id=row["collection_id"], config=config)
