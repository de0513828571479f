"""vector_svc beside raw asyncpg on the same table, index and recall.

Starts a Postgres and the service, loads clustered vectors with texts, builds the index,
and measures in turn, three times, medians. Recall is computed by numpy for every figure.
Ours is measured through gRPC, without the gateway. The raw loop reads the same table by
the same index with the same `hnsw.ef_search`, which MeasureRecall has chosen. Raw has no
process besides its own and Postgres' on the same cores, ours has the service: what gRPC
alone takes of them, and what that leaves, is measured as well (`ratio_limit_*`), and what
is left of it where searches go over a stream (`stream_*`), or 16 of them in one call.
Prints one JSON object.

    python -m bench.vector --json [--rows 100000] [--seconds 4]

In pieces, one after the other, on a database that stays:

    python -m bench.vector --json --database URL --only ingest,load
    python -m bench.vector --json --database URL --only search
"""

import argparse
import asyncio
import importlib.metadata
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import asyncpg
import grpc.aio
import uvloop

from bench.echo import cpu_seconds_per_call
from bench.vector_data import DIMENSION, FILTERS, LIMIT, Data
from bench.vector_ingest import measure_ingest
from bench.vector_measure import Figures, Measured, measure
from bench.vector_sides import BATCHED, NAME, Ours, Raw
from stepwire.api.vector.v1.collection_service_pb2 import ListCollectionsRequest
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.stack.ports import free_port
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server
from vector_svc.store.codecs import set_codecs

RUNS = 3
CLIENTS = (1, 8)
# Callers at once, where searches go in batches.
BATCH_CLIENTS = 2
# The index fits in here; Postgres would copy its pages from the system's cache otherwise.
SHARED_BUFFERS_MB = 512
PARTS = ("ingest", "load", "search")


async def timed(work: Any) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def unfiltered(data: Data, raw: Raw, ours: Ours, seconds: float, figures: Figures) -> None:
    """Beside the raw loop: a call for each search, and all searches over one stream."""
    truth = data.truth()
    async with ours.streaming() as stream:
        sides = {
            "raw_": raw.search(data),
            "": ours.search(data),
            "stream_": ours.stream(data, stream),
        }
        for clients in CLIENTS:
            rounds = [
                {
                    side: await measure(query, truth, clients=clients, seconds=seconds)
                    for side, query in sides.items()
                }
                for _ in range(RUNS)
            ]
            assert ours.plans == {"SEARCH_PLAN_INDEX"}, ours.plans
            for side in sides:
                _rates(side, clients, rounds, figures)


def _rates(side: str, clients: int, rounds: list[dict[str, Measured]], figures: Figures) -> None:
    runs, theirs = [each[side] for each in rounds], [each["raw_"] for each in rounds]
    figures.median(f"{side}qps_{clients}", [run.qps for run in runs], 1)
    figures.median(f"{side}recall_{clients}", [run.recall for run in runs], 4)
    figures.median(f"{side}latency_{clients}_ms_p50", [run.p50_ms for run in runs])
    figures.median(f"{side}latency_{clients}_ms_p99", [run.p99_ms for run in runs])
    if runs == theirs:
        return
    pairs = list(zip(runs, theirs, strict=True))
    figures.median(f"{side}ratio_raw_{clients}", [run.qps / raw.qps for run, raw in pairs])
    if clients == 1:
        added = [run.p50_ms - raw.p50_ms for run, raw in pairs]
        figures.median(f"{side}added_latency_ms_p50", added)


async def limits(data: Data, ours: Ours, seconds: float, figures: Figures) -> None:
    """How near to the raw loop a service would come that did nothing but gRPC."""
    request = SearchPointsRequest(collection=NAME, vector=data.queries[0].tobytes(), limit=LIMIT)
    cores = len(os.sched_getaffinity(0))
    for stream, clients in itertools.product((False, True), CLIENTS):
        side = "stream_" if stream else ""
        cpu = await cpu_seconds_per_call(
            request.SerializeToString(),
            await ours.answer_bytes(data),
            concurrency=clients,
            seconds=seconds,
            stream=stream,
        )
        figures[f"{side}grpc_cpu_us_{clients}"] = round(cpu * 1e6)
        # One client waits for one thing after the other; eight keep all cores busy.
        raw = figures[f"raw_qps_{clients}"] / (1 if clients == 1 else cores)
        figures[f"{side}ratio_limit_{clients}"] = round(1 / (1 + cpu * raw), 3)


async def batched(data: Data, raw: Raw, ours: Ours, seconds: float, figures: Figures) -> None:
    """Beside the raw loop at its best, with eight clients."""
    pairs = [
        (
            await measure(raw.search(data), None, clients=max(CLIENTS), seconds=seconds),
            await measure(ours.batch(data), None, clients=BATCH_CLIENTS, seconds=seconds),
        )
        for _ in range(RUNS)
    ]
    assert all(mine.fewest == BATCHED * LIMIT for _, mine in pairs)
    figures.median("batch16_qps", [mine.qps * BATCHED for _, mine in pairs], 1)
    ratios = [mine.qps * BATCHED / theirs.qps for theirs, mine in pairs]
    figures.median("ratio_raw_batch16", ratios)


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


async def bench(url: str, arguments: argparse.Namespace) -> Figures:
    figures = Figures()
    data = Data(arguments.rows)
    parts = arguments.only
    async with service(url) as channel:
        ours = Ours(channel)
        if "ingest" in parts:
            figures |= await measure_ingest(url, channel, data)
        if "load" in parts:
            seconds = await timed(ours.load(data))
            figures["upsert_with_words_rows_per_s"] = round(data.rows / seconds)
            figures["build_seconds"] = round(await timed(ours.build()), 1)
        if "search" in parts:
            figures |= await ours.recall()
            await searches(url, data, ours, arguments.seconds, figures)
    figures["conditions"] = await _conditions(url, arguments)
    return figures


async def searches(url: str, data: Data, ours: Ours, seconds: float, figures: Figures) -> None:
    async with asyncpg.create_pool(
        url,
        min_size=max(CLIENTS),
        max_size=max(CLIENTS),
        init=set_codecs,
        server_settings={"hnsw.ef_search": str(figures["ef_search"])},
    ) as pool:
        number = await pool.fetchval(
            "SELECT collection_id FROM vector.collections WHERE name = $1", NAME
        )
        await pool.execute(f"VACUUM ANALYZE vector.points_{number}")
        await pool.execute(f"VACUUM ANALYZE vector.words_{number}")
        raw = Raw(pool, f"vector.points_{number}")
        await unfiltered(data, raw, ours, seconds, figures)
        await limits(data, ours, seconds, figures)
        await batched(data, raw, ours, seconds, figures)
        await filtered(data, raw, ours, seconds, figures)
        await hybrid(data, ours, seconds, figures)


async def _conditions(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    connection = await asyncpg.connect(url)
    conditions = {
        "rows": arguments.rows,
        "dimension": DIMENSION,
        "limit": LIMIT,
        "runs": RUNS,
        "seconds_per_run": arguments.seconds,
        "index": "hnsw m=16 ef_construction=64, built when all rows were there; gin; words",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "shared_buffers": await connection.fetchval("SHOW shared_buffers"),
        "fsync": await connection.fetchval("SHOW fsync"),
        "postgres": await connection.fetchval("SHOW server_version"),
        "pgvector": await connection.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        ),
        "asyncpg": importlib.metadata.version("asyncpg"),
        "grpcio": importlib.metadata.version("grpcio"),
    }
    await connection.close()
    return conditions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line instead of many")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4, help="length of each run")
    parser.add_argument("--database", default="", help="URL of a database that stays")
    parser.add_argument(
        "--only", type=lambda names: names.split(","), default=PARTS, help="ingest,load,search"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database
        if not url:
            server = stack.enter_context(postgres_server(shared_buffers_mb=SHARED_BUFFERS_MB))
            url = stack.enter_context(fresh_database(server))
        figures = uvloop.run(bench(url, arguments))
    print(json.dumps(figures, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
