"""Samples of points and searches, walks with their time, and what was measured, in Postgres."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import numpy as np
import orjson

from stepwire.db import load_queries, retryable
from vector_svc.collections.store import built_argument
from vector_svc.engine.records import Collection, Element, Matrix
from vector_svc.engine.vectors import BITS_PER_BYTE
from vector_svc.search.efforts import MAX_PROBES
from vector_svc.search.planner import Decision, ranked_by_whole_vectors
from vector_svc.search.ports import Near, Order
from vector_svc.search.records import Plan, QuerySample, Recall
from vector_svc.search.statements import recall_statement
from vector_svc.search.store import PostgresSearches, arguments_of
from vector_svc.store.codecs import decode_vector, encode_vectors
from vector_svc.store.database import Database

queries: Final = load_queries("vector_svc", "sql/recall.sql")
collection_queries: Final = load_queries("vector_svc", "sql/collections.sql")


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
        return [row["id"] for row in rows], _matrix(collection, [row["embedding"] for row in rows])

    async def queries(self, collection: Collection, count: int) -> list[QuerySample]:
        """Return query samples by chance."""
        rows, _ = await self._fetch(collection, queries.queries, collection.id, count)
        vectors = _matrix(collection, [row["embedding"] for row in rows])
        return [
            QuerySample(vectors[number : number + 1], row["wanted"])
            for number, row in enumerate(rows)
        ]

    async def exact(self, collection: Collection, vector: Matrix, *, limit: int) -> list[Near]:
        """Return the nearest points, of all that there are."""
        near, _ = await self._nearest(collection, vector, Decision(Plan.EXACT, 0, 0, 1.0), limit)
        return near

    async def walk(
        self, collection: Collection, vector: Matrix, *, effort: int, limit: int, goes_on: bool
    ) -> tuple[list[Near], float]:
        """Return the nearest points that a walk finds, and the milliseconds that it took."""
        most = MAX_PROBES if goes_on else effort
        decision = Decision(Plan.INDEX, effort, 0, 0.0, most_lists=most)
        return await self._nearest(collection, vector, decision, limit)

    async def keep(self, collection: Collection, recall: Recall) -> datetime:
        """Keep what was measured, in place of what was; return when."""
        figures = [
            (each.effort, each.recall, each.milliseconds, each.nearest) for each in recall.figures
        ]
        [row], _ = await self._fetch(
            collection,
            queries.keep,
            collection.id,
            collection.tenant_id,
            recall.target,
            None if recall.index is None else built_argument(recall.index),
            orjson.dumps(figures),
            recall.unreachable,
            recall.samples,
            recall.queries.value,
        )
        measured_at: datetime = row["measured_at"]
        return measured_at

    async def _nearest(
        self, collection: Collection, vector: Matrix, decision: Decision, limit: int
    ) -> tuple[list[Near], float]:
        decision, candidates = ranked_by_whole_vectors(
            decision, collection.index, wanted=limit, oversampling=0
        )
        order = Order(
            plan=decision.plan,
            wanted=limit,
            offset=0,
            filter=None,
            words=None,
            effort=decision.effort,
            most_lists=decision.most_lists,
            candidates=candidates,
            depth=limit,
            max_distance=None,
            payloads=False,
            vectors=False,
        )
        prepared = self._searches.prepare(collection, order)
        arguments = arguments_of(prepared, vector)
        rows, took = await self._fetch(collection, prepared.statement, *arguments)
        return [(row["id"], row["distance"]) for row in rows], took

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


class PostgresQuerySamples:
    """A `QuerySampleStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, collection: Collection, samples: Sequence[QuerySample]) -> None:
        """Keep queries, in place of the oldest where there are as many as are wanted.

        Under a lock, so that of several instances none leaves more than that.
        """
        vectors = np.concatenate([sample.vector for sample in samples])
        async with (
            self._database.connection("keep_queries", collection.tenant_id) as connection,
            connection.transaction(),
        ):
            await connection.execute(queries.lock_queries, collection.id)
            await connection.execute(
                queries.keep_queries,
                collection.id,
                encode_vectors(vectors, collection.config.element),
                [sample.wanted for sample in samples],
                timeout=self._database.statement_seconds,
            )
            # Reads the number anew: if it was made less meanwhile, that is waited for above.
            await connection.execute(collection_queries.drop_queries, collection.id)


def _matrix(collection: Collection, rows: Sequence[bytes]) -> Matrix:
    config = collection.config
    data = b"".join(decode_vector(row, config.element) for row in rows)
    if config.element is Element.BINARY:
        return np.frombuffer(data, np.uint8).reshape(len(rows), config.dimension // BITS_PER_BYTE)
    return np.frombuffer(data, "<f4").reshape(len(rows), config.dimension)
