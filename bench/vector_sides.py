"""The two sides of bench.vector: the service by gRPC, and asyncpg on the same table."""

import json
from datetime import timedelta
from typing import Any

import asyncpg
import grpc.aio

from bench.vector_data import DIMENSION, LIMIT, QUERIES, Data
from bench.vector_measure import Found, Query
from stepwire.api.vector.v1.collection_pb2 import (
    INDEX_STATE_READY,
    Collection,
    IndexOptions,
    TextOptions,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    GetCollectionRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.index_service_pb2_grpc import IndexServiceStub
from stepwire.api.vector.v1.point_service_pb2 import UpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.api.vector.v1.search_pb2 import SearchPlan, WordQuery
from stepwire.api.vector.v1.search_service_pb2 import (
    BatchSearchPointsRequest,
    MeasureRecallRequest,
    SearchPointsRequest,
    SearchPointsResponse,
)
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceStub
from stepwire.sdk.search_stream import SearchStream
from stepwire.sdk.vectors import Vectors
from stepwire.testing.poll import eventually
from vector_svc.store.codecs import encode_vectors

NAME = "bench"
BATCH = 1_000
TARGET_RECALL = 0.96
# Searches of one call, where they go in batches.
BATCHED = 16
# Longest build of the index.
BUILD_SECONDS = 900
TIMEOUT = timedelta(seconds=30)


class Ours:
    """The service, by gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._collections = CollectionServiceStub(channel)
        self._indexes = IndexServiceStub(channel)
        self._points = PointServiceStub(channel)
        self._searches = SearchServiceStub(channel)
        self._vectors = Vectors(channel, target="the service", timeout=TIMEOUT)
        self.plans: set[str] = set()

    async def load(self, data: Data) -> None:
        collection = Collection(
            name=NAME,
            dimension=DIMENSION,
            # So many points never come: the index is built when all are there.
            index=IndexOptions(min_points=10**9),
            text=TextOptions(field="text"),
        )
        await self._collections.CreateCollection(CreateCollectionRequest(collection=collection))
        for start in range(0, data.rows, BATCH):
            request = UpsertPointsRequest(collection=NAME)
            for row in range(start, min(start + BATCH, data.rows)):
                point = request.points.add(id=str(row), vector=data.vectors[row].tobytes())
                point.payload.update(data.payload(row))
            await self._points.UpsertPoints(request)

    async def build(self) -> None:
        """Build the index, and wait for it."""
        await self._indexes.BuildIndex(BuildIndexRequest(collection=NAME, allow_slow=True))

        async def built() -> bool:
            found = await self._collections.GetCollection(GetCollectionRequest(collection=NAME))
            return bool(found.collection.index_state == INDEX_STATE_READY)

        await eventually(built, BUILD_SECONDS)

    async def recall(self) -> dict[str, Any]:
        request = MeasureRecallRequest(
            collection=NAME, limit=LIMIT, samples=100, target_recall=TARGET_RECALL
        )
        measured = await self._searches.MeasureRecall(request)
        assert measured.ef_search, f"no walk reaches the recall: {measured}"
        return {
            "ef_search": measured.ef_search,
            "unreachable_share": round(measured.unreachable_share, 4),
            "recall_by_ef_search": {
                each.ef_search: round(each.recall, 4) for each in measured.figures
            },
        }

    def search(
        self, data: Data, filter_: dict[str, int] | None = None, *, words: bool = False
    ) -> Query:
        requests = [
            SearchPointsRequest(collection=NAME, vector=vector.tobytes(), limit=LIMIT)
            for vector in data.queries
        ]
        for number, request in enumerate(requests):
            if filter_:
                request.filter.must.add().contains.update(filter_)
            if words:
                request.words.CopyFrom(WordQuery(words=data.words(number)))
        self.plans = set()

        async def query(number: int) -> Found:
            response: SearchPointsResponse = await self._searches.SearchPoints(requests[number])
            self.plans.add(SearchPlan.Name(response.report.plan))
            return [match.point.id for match in response.points]

        return query

    def streaming(self) -> SearchStream:
        return self._vectors.stream()

    def stream(self, data: Data, stream: SearchStream) -> Query:
        """Search over a stream of the SDK, which all callers share."""
        vectors = [vector.tobytes() for vector in data.queries]

        async def query(number: int) -> Found:
            return [
                match.point.id for match in await stream.search(NAME, vectors[number], limit=LIMIT)
            ]

        return query

    def batch(self, data: Data) -> Query:
        """Search for a query and those that follow it, in one call; gives what all find."""
        searches = [
            SearchPointsRequest(vector=vector.tobytes(), limit=LIMIT) for vector in data.queries
        ]

        async def query(number: int) -> Found:
            chosen = [searches[(number + each) % QUERIES] for each in range(BATCHED)]
            request = BatchSearchPointsRequest(collection=NAME, searches=chosen)
            response = await self._searches.BatchSearchPoints(request)
            return [match.point.id for each in response.results for match in each.points]

        return query

    async def answer_bytes(self, data: Data) -> int:
        """Size of an answer."""
        vector = data.queries[0].tobytes()
        request = SearchPointsRequest(collection=NAME, vector=vector, limit=LIMIT)
        return int((await self._searches.SearchPoints(request)).ByteSize())


class Raw:
    """asyncpg and pgvector with nothing between."""

    def __init__(self, pool: asyncpg.Pool, table: str) -> None:
        self._pool = pool
        self._table = table

    def search(self, data: Data, filter_: dict[str, int] | None = None) -> Query:
        vectors = encode_vectors(data.queries)
        where = "WHERE payload @> $2" if filter_ else ""
        sql = (
            f"SELECT id, payload, embedding <=> $1 AS distance"
            f" FROM {self._table} {where} ORDER BY embedding <=> $1 LIMIT {LIMIT}"
        )
        more = [json.dumps(filter_).encode()] if filter_ else []

        async def query(number: int) -> Found:
            async with self._pool.acquire() as connection:
                return [row["id"] for row in await connection.fetch(sql, vectors[number], *more)]

        return query
