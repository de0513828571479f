"""vector_svc beside raw asyncpg on the same Postgres, index and recall.

Starts a Postgres and the service, loads clustered vectors, and measures in turn, three
times, medians. Recall is computed by numpy for every figure. Ours is measured through
gRPC, without the gateway. Prints one JSON object.

    python -m bench.vector --json [--rows 100000] [--seconds 4]
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc.aio
import numpy as np
import uvloop

from stepwire.api.vector.v1.collection_pb2 import Collection
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.point_service_pb2 import UpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceStub
from stepwire.stack.ports import free_port
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server
from vector_svc.engine.records import Metric
from vector_svc.settings import VectorSettings
from vector_svc.store.codecs import encode_vectors, set_codecs
from vector_svc.store.statements import create_points

DIMENSION = 384
LIMIT = 10
BATCH = 1_000
QUERIES = 500
RUNS = 3
RAW_TABLE = 999_999
# Share of points that a filter leaves, in percent, and the payload field that says so.
FILTERS = {"50": ("half", 2), "10": ("tenth", 10), "1": ("hundredth", 100), "0.1": ("mille", 1_000)}

Found = list[str]
Query = Callable[[int], Awaitable[Found]]


@dataclass
class Data:
    """Clustered vectors and queries from the same clusters."""

    rows: int
    vectors: Any = field(init=False)
    queries: Any = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(11)
        centres = random.standard_normal((max(10, self.rows // 100), DIMENSION), dtype="f4")

        def draw(count: int) -> Any:
            noise = random.standard_normal((count, DIMENSION), dtype="f4")
            return (centres[random.integers(0, len(centres), count)] + 0.6 * noise).astype("<f4")

        self.vectors, self.queries = draw(self.rows), draw(QUERIES)

    def payload(self, row: int) -> dict[str, int]:
        return {name: row % modulus for name, modulus in FILTERS.values()}

    def truth(self, modulus: int = 1) -> list[set[str]]:
        rows = np.arange(1 % modulus, self.rows, modulus)
        unit = self.vectors[rows] / np.linalg.norm(self.vectors[rows], axis=1, keepdims=True)
        scores = self.queries @ unit.T
        best = np.argpartition(-scores, min(LIMIT, len(rows)) - 1, axis=1)[:, :LIMIT]
        return [{str(rows[column]) for column in line} for line in best]


class Raw:
    """asyncpg and pgvector with nothing between."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def load(self, data: Data) -> None:
        sql = create_points(
            RAW_TABLE, dimension=DIMENSION, metric=Metric.COSINE, m=16, ef_construction=64
        )
        await self._pool.execute(sql)
        for start in range(0, data.rows, BATCH):
            rows = range(start, min(start + BATCH, data.rows))
            payloads = [json.dumps(data.payload(row)).encode() for row in rows]
            records = zip(map(str, rows), encode_vectors(data.vectors[rows]), payloads, strict=True)
            await self._pool.copy_records_to_table(
                f"points_{RAW_TABLE}",
                schema_name="vector",
                columns=["id", "embedding", "payload"],
                records=records,
            )

    def search(self, data: Data) -> Query:
        vectors = encode_vectors(data.queries)
        sql = (
            f"SELECT id, payload, embedding <=> $1 AS distance FROM vector.points_{RAW_TABLE}"
            f" ORDER BY embedding <=> $1 LIMIT {LIMIT}"
        )

        async def query(number: int) -> Found:
            async with self._pool.acquire() as connection:
                return [row["id"] for row in await connection.fetch(sql, vectors[number])]

        return query


class Ours:
    """The service, by gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._collections = CollectionServiceStub(channel)
        self._points = PointServiceStub(channel)
        self._searches = SearchServiceStub(channel)

    async def load(self, data: Data) -> None:
        collection = Collection(name="bench", dimension=DIMENSION)
        await self._collections.CreateCollection(CreateCollectionRequest(collection=collection))
        for start in range(0, data.rows, BATCH):
            request = UpsertPointsRequest(collection="bench")
            for row in range(start, min(start + BATCH, data.rows)):
                point = request.points.add(id=str(row), vector=data.vectors[row].tobytes())
                point.payload.update(data.payload(row))
            await self._points.UpsertPoints(request)

    def search(self, data: Data, filter_: dict[str, int] | None = None) -> Query:
        requests = [
            SearchPointsRequest(collection="bench", vector=vector.tobytes(), limit=LIMIT)
            for vector in data.queries
        ]
        for request in requests:
            request.filter.update(filter_ or {})

        async def query(number: int) -> Found:
            response = await self._searches.SearchPoints(requests[number])
            return [match.point.id for match in response.points]

        return query


@dataclass
class Measured:
    """One run of one query by some clients at once."""

    qps: float
    p50_ms: float
    recall: float
    fewest: int


async def measure(query: Query, truth: list[set[str]], *, clients: int, seconds: float) -> Measured:
    """Search for some seconds, after half a second of warming."""
    times: list[float] = []
    found: dict[int, Found] = {}

    async def work(first: int, end: float, times: list[float]) -> None:
        number = first
        while time.perf_counter() < end:
            started = time.perf_counter()
            found[number] = await query(number)
            times.append(time.perf_counter() - started)
            number = (number + clients) % QUERIES

    async def all_work(seconds: float, times: list[float]) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(work(client, end, times) for client in range(clients)))

    await all_work(0.5, [])
    started = time.perf_counter()
    await all_work(seconds, times)
    elapsed = time.perf_counter() - started
    hits = sum(len(truth[number] & set(ids)) for number, ids in found.items())
    wanted = sum(len(truth[number]) for number in found)
    fewest = min(len(ids) for ids in found.values())
    p50_ms = statistics.median(times) * 1e3
    return Measured(len(times) / elapsed, p50_ms, hits / wanted, fewest)


async def timed(work: Awaitable[None]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


class Figures(dict[str, Any]):
    """Medians by key, with the spread of each: (most - least) / median."""

    def __init__(self) -> None:
        super().__init__(spread={})

    def median(self, key: str, values: list[float], digits: int = 3) -> float:
        middle = statistics.median(values)
        self[key] = round(middle, digits)
        self["spread"][key] = round((max(values) - min(values)) / middle, 3) if middle else 0.0
        return middle


async def compare(data: Data, raw: Raw, ours: Ours, seconds: float) -> Figures:
    figures = Figures()
    raw_seconds, our_seconds = await timed(raw.load(data)), await timed(ours.load(data))
    figures["ingest_rows_per_s"] = round(data.rows / our_seconds)
    figures["ingest_ratio"] = round(raw_seconds / our_seconds, 3)
    truth = data.truth()
    for clients in (1, 8):
        pairs = [
            (
                await measure(raw.search(data), truth, clients=clients, seconds=seconds),
                await measure(ours.search(data), truth, clients=clients, seconds=seconds),
            )
            for _ in range(RUNS)
        ]
        figures.median(f"qps_{clients}", [mine.qps for _, mine in pairs], 1)
        figures.median(f"raw_qps_{clients}", [theirs.qps for theirs, _ in pairs], 1)
        figures.median(f"ratio_raw_{clients}", [mine.qps / theirs.qps for theirs, mine in pairs])
        figures.median(f"recall_{clients}", [mine.recall for _, mine in pairs], 4)
        figures.median(f"raw_recall_{clients}", [theirs.recall for theirs, _ in pairs], 4)
        if clients == 1:
            added = [mine.p50_ms - theirs.p50_ms for theirs, mine in pairs]
            figures.median("added_latency_ms_p50", added)
            figures.median("raw_latency_ms_p50", [theirs.p50_ms for theirs, _ in pairs])
    for share, (name, modulus) in FILTERS.items():
        runs = [
            await measure(
                ours.search(data, {name: 1}), data.truth(modulus), clients=1, seconds=seconds
            )
            for _ in range(RUNS)
        ]
        figures.median(f"filtered_{share}_qps", [run.qps for run in runs], 1)
        figures.median(f"filtered_{share}_recall", [run.recall for run in runs], 4)
        figures[f"filtered_{share}_fewest"] = min(run.fewest for run in runs)
    return figures


async def bench(server: PostgresServer, url: str, arguments: argparse.Namespace) -> Figures:
    """Run the service as a process of its own, and both sides against it."""
    port = free_port()
    environment = os.environ | {
        "STEPWIRE_VECTOR_POSTGRES_URL": url,
        "STEPWIRE_VECTOR_PORT": str(port),
        "STEPWIRE_VECTOR_LOG_LEVEL": "WARNING",
    }
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vector_svc", env=environment
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ours = Ours(channel)
            await eventually(lambda: _ready(channel), 30)
            pool = await asyncpg.create_pool(
                url,
                min_size=8,
                max_size=8,
                init=set_codecs,
                server_settings={"hnsw.ef_search": str(VectorSettings().hnsw_ef_search)},
            )
            figures = await compare(Data(arguments.rows), Raw(pool), ours, arguments.seconds)
            figures["conditions"] = await _conditions(pool, arguments, server)
            await pool.close()
            return figures
    finally:
        service.terminate()
        await service.wait()


async def _ready(channel: grpc.aio.Channel) -> bool:
    try:
        await CollectionServiceStub(channel).ListCollections(ListCollectionsRequest())
    except grpc.aio.AioRpcError:
        return False
    return True


async def _conditions(
    pool: asyncpg.Pool, arguments: argparse.Namespace, server: PostgresServer
) -> dict[str, Any]:
    return {
        "rows": arguments.rows,
        "dimension": DIMENSION,
        "limit": LIMIT,
        "batch": BATCH,
        "runs": RUNS,
        "seconds_per_run": arguments.seconds,
        "ef_search": VectorSettings().hnsw_ef_search,
        "index": "hnsw m=16 ef_construction=64, there before the rows; gin",
        "cores": os.cpu_count(),
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
