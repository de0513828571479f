"""Samples of points, single searches with their time, and what was measured, in Postgres."""

import time
from datetime import datetime
from typing import Any

import asyncpg
import numpy as np
import orjson

from stepwire.db import retryable
from vector_svc.engine.records import Collection, Element, Matrix
from vector_svc.search.ports import Near, Order
from vector_svc.search.ranking import matrix_of
from vector_svc.search.records import Plan, Recall
from vector_svc.search.statements import recall_statement
from vector_svc.search.store import PostgresSearches
from vector_svc.store.codecs import decode_vector
from vector_svc.store.database import Database


class PostgresRecalls:
    """A `RecallStore`.

    Args:
        database: Where.
        searches: Makes the statements that are measured.
    """

    def __init__(self, database: Database, searches: PostgresSearches) -> None:
        self._database = database
        self._searches = searches

    async def sample(self, collection: Collection, count: int) -> tuple[list[str], Matrix]:
        """Return the ids and vectors of points by chance."""
        rows, _ = await self._fetch(collection, recall_statement("sample", collection.id), count)
        element = collection.config.element
        vectors = [decode_vector(row["embedding"], element) for row in rows]
        if element is Element.BINARY:
            data = np.frombuffer(b"".join(vectors), np.uint8).reshape(len(rows), -1)
            return [row["id"] for row in rows], data
        return [row["id"] for row in rows], matrix_of(vectors, element)

    async def nearest(
        self, collection: Collection, vector: Matrix, *, plan: Plan, ef_search: int, limit: int
    ) -> tuple[list[Near], float]:
        """Return the nearest points, and the milliseconds that it took."""
        order = Order(
            plan=plan,
            vector=vector,
            wanted=limit,
            offset=0,
            filter=None,
            words=None,
            ef_search=ef_search,
            candidates=ef_search,
            depth=limit,
            max_distance=None,
            payloads=False,
            vectors=False,
        )
        statement, arguments = self._searches.statement(collection, order)
        rows, took = await self._fetch(collection, statement, *arguments)
        return [(row["id"], row["distance"]) for row in rows], took

    async def keep(self, collection: Collection, recall: Recall) -> datetime:
        """Keep what was measured, in place of what was; return when."""
        figures = [(each.ef_search, each.recall, each.milliseconds) for each in recall.figures]
        [row], _ = await self._fetch(
            collection,
            recall_statement("keep", collection.id),
            collection.id,
            collection.tenant_id,
            recall.target,
            orjson.dumps(figures),
            recall.unreachable,
            recall.samples,
        )
        measured_at: datetime = row["measured_at"]
        return measured_at

    @retryable()
    async def _fetch(
        self, collection: Collection, statement: str, *arguments: Any
    ) -> tuple[list[asyncpg.Record], float]:
        async with self._database.connection("measure_recall", collection.tenant_id) as connection:
            started = time.perf_counter()
            rows = await connection.fetch(
                statement, *arguments, timeout=self._database.statement_seconds
            )
            return rows, (time.perf_counter() - started) * 1_000
