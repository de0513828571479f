"""vector_svc beside raw asyncpg on the same table, index and recall.

Starts a Postgres and the service, loads clustered vectors with texts, builds the index,
and measures in turn, three times, medians. Recall is computed by numpy for every figure.
Ours is measured through gRPC, without the gateway. The raw loop reads the same table by
the same index with the same `hnsw.ef_search`, which MeasureRecall has chosen. Prints one
JSON object.

    python -m bench.vector --json [--rows 100000] [--seconds 4]
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc.aio
import uvloop

from bench.vector_data import DIMENSION, FILTERS, LIMIT, Data
from bench.vector_ingest import measure_ingest
from bench.vector_measure import Figures, Found, Query, measure
from stepwire.api.vector.v1.collection_pb2 import (
    INDEX_STATE_READY,
    Collection,
    IndexOptions,
    TextOptions,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    GetCollectionRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.index_service_pb2_grpc import IndexServiceStub
from stepwire.api.vector.v1.point_service_pb2 import UpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.api.vector.v1.search_pb2 import SearchPlan, WordQuery
from stepwire.api.vector.v1.search_service_pb2 import (
    MeasureRecallRequest,
    SearchPointsRequest,
    SearchPointsResponse,
)
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceStub
from stepwire.stack.ports import free_port
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server
from vector_svc.store.codecs import encode_vectors, set_codecs

NAME = "bench"
BATCH = 1_000
RUNS = 3
TARGET_RECALL = 0.96
CLIENTS = (1, 8)
# Longest build of the index.
BUILD_SECONDS = 900


class Ours:
    """The service, by gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._collections = CollectionServiceStub(channel)
        self._indexes = IndexServiceStub(channel)
        self._points = PointServiceStub(channel)
        self._searches = SearchServiceStub(channel)
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


async def timed(work: Any) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def unfiltered(data: Data, raw: Raw, ours: Ours, seconds: float, figures: Figures) -> None:
    truth = data.truth()
    for clients in CLIENTS:
        pairs = [
            (
                await measure(raw.search(data), truth, clients=clients, seconds=seconds),
                await measure(ours.search(data), truth, clients=clients, seconds=seconds),
            )
            for _ in range(RUNS)
        ]
        assert ours.plans == {"SEARCH_PLAN_INDEX"}, ours.plans
        figures.median(f"qps_{clients}", [mine.qps for _, mine in pairs], 1)
        figures.median(f"raw_qps_{clients}", [theirs.qps for theirs, _ in pairs], 1)
        figures.median(f"ratio_raw_{clients}", [mine.qps / theirs.qps for theirs, mine in pairs])
        figures.median(f"recall_{clients}", [mine.recall for _, mine in pairs], 4)
        figures.median(f"raw_recall_{clients}", [theirs.recall for theirs, _ in pairs], 4)
        figures.median(f"latency_{clients}_ms_p50", [mine.p50_ms for _, mine in pairs])
        figures.median(f"latency_{clients}_ms_p99", [mine.p99_ms for _, mine in pairs])
        if clients == 1:
            added = [mine.p50_ms - theirs.p50_ms for theirs, mine in pairs]
            figures.median("added_latency_ms_p50", added)
            figures.median("raw_latency_ms_p50", [theirs.p50_ms for theirs, _ in pairs])


async def filtered(data: Data, raw: Raw, ours: Ours, seconds: float, figures: Figures) -> None:
    for share, (name, modulus) in FILTERS.items():
        truth, filter_ = data.truth(modulus), {name: 1}
        for side, one in (("filtered", ours), ("raw_filtered", raw)):
            query = one.search(data, filter_)
            runs = [await measure(query, truth, clients=1, seconds=seconds) for _ in range(RUNS)]
            figures.median(f"{side}_{share}_qps", [run.qps for run in runs], 1)
            figures.median(f"{side}_{share}_recall", [run.recall for run in runs], 4)
            figures[f"{side}_{share}_fewest"] = min(run.fewest for run in runs)
            if one is ours:
                [plan] = ours.plans
                figures[f"filtered_{share}_plan"] = plan.removeprefix("SEARCH_PLAN_")


async def hybrid(data: Data, ours: Ours, seconds: float, figures: Figures) -> None:
    runs = [
        (
            await measure(ours.search(data), None, clients=1, seconds=seconds),
            await measure(ours.search(data, words=True), None, clients=1, seconds=seconds),
        )
        for _ in range(RUNS)
    ]
    figures.median("hybrid_qps", [both.qps for _, both in runs], 1)
    figures.median("hybrid_latency_ms_p50", [both.p50_ms for _, both in runs])
    figures.median("hybrid_ratio", [both.qps / near.qps for near, both in runs])


@asynccontextmanager
async def service(url: str) -> AsyncIterator[grpc.aio.Channel]:
    """Run the service as a process of its own."""
    port = free_port()
    environment = os.environ | {
        "STEPWIRE_VECTOR_POSTGRES_URL": url,
        "STEPWIRE_VECTOR_PORT": str(port),
        "STEPWIRE_VECTOR_LOG_LEVEL": "WARNING",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vector_svc", env=environment
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await eventually(lambda: _ready(channel), 30)
            yield channel
    finally:
        process.terminate()
        await process.wait()


async def _ready(channel: grpc.aio.Channel) -> bool:
    try:
        await CollectionServiceStub(channel).ListCollections(ListCollectionsRequest())
    except grpc.aio.AioRpcError:
        return False
    return True


async def bench(server: PostgresServer, url: str, arguments: argparse.Namespace) -> Figures:
    figures = Figures()
    data = Data(arguments.rows)
    async with service(url) as channel:
        ours = Ours(channel)
        figures |= await measure_ingest(url, channel, data)
        figures["upsert_with_words_rows_per_s"] = round(data.rows / await timed(ours.load(data)))
        figures["build_seconds"] = round(await timed(ours.build()), 1)
        figures |= await ours.recall()
        async with asyncpg.create_pool(
            url,
            min_size=max(CLIENTS),
            max_size=max(CLIENTS),
            init=set_codecs,
            server_settings={"hnsw.ef_search": str(figures["ef_search"])},
        ) as pool:
            number = await pool.fetchval("SELECT collection_id FROM vector.collections")
            await pool.execute(f"VACUUM ANALYZE vector.points_{number}")
            await pool.execute(f"VACUUM ANALYZE vector.words_{number}")
            raw = Raw(pool, f"vector.points_{number}")
            await unfiltered(data, raw, ours, arguments.seconds, figures)
            await filtered(data, raw, ours, arguments.seconds, figures)
            await hybrid(data, ours, arguments.seconds, figures)
            figures["conditions"] = await _conditions(pool, arguments, server)
    return figures


async def _conditions(
    pool: asyncpg.Pool, arguments: argparse.Namespace, server: PostgresServer
) -> dict[str, Any]:
    return {
        "rows": arguments.rows,
        "dimension": DIMENSION,
        "limit": LIMIT,
        "runs": RUNS,
        "seconds_per_run": arguments.seconds,
        "index": "hnsw m=16 ef_construction=64, built when all rows were there; gin; words",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "shared_buffers_mb": server.shared_buffers_mb,
        "fsync": await pool.fetchval("SHOW fsync"),
        "postgres": await pool.fetchval("SHOW server_version"),
        "pgvector": await pool.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        ),
        "asyncpg": importlib.metadata.version("asyncpg"),
        "grpcio": importlib.metadata.version("grpcio"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line instead of many")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4, help="length of each run")
    arguments = parser.parse_args()
    with postgres_server() as server, fresh_database(server) as url:
        figures = uvloop.run(bench(server, url, arguments))
    print(json.dumps(figures, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
