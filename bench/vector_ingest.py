"""How fast vector_svc takes points in, beside raw binary COPY into the same kind of table.

Both write the same rows in the same chunks, each chunk a transaction, into a fresh table
with the same columns and indexes (of ids, payloads and expiry; that of the vectors is built
after loading). Raw has the fastest client there is: asyncpg, given bytes that numpy made.
Ours is what a caller has: gRPC messages, checked by the service.
"""

import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import asyncpg
import grpc.aio
import orjson

from stepwire.api.vector.v1.collection_pb2 import Collection, IndexOptions
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    DeleteCollectionRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.point_service_pb2 import BulkUpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from vector_svc.store.codecs import copy_rows, encode_vectors, set_codecs

CHUNK = 5_000
NAME = "ingest"
RAW_TABLE = "raw_ingest"


class Rows(Protocol):
    """What is loaded: vectors as a float32 matrix, and the payload of each row."""

    rows: int
    vectors: Any
    payload: Callable[[int], Mapping[str, Any]]


async def measure_ingest(
    url: str, channel: grpc.aio.Channel, data: Rows, *, runs: int = 3
) -> dict[str, Any]:
    """Load in turn, and say how many rows a second each took in; medians."""
    connection = await asyncpg.connect(url)
    await set_codecs(connection)
    payloads = [orjson.dumps(data.payload(row)) for row in range(data.rows)]
    raw: list[float] = []
    ours: list[float] = []
    try:
        for _ in range(runs):
            await create(channel, NAME, data)
            raw.append(await _raw_seconds(connection, data, payloads))
            started = time.perf_counter()
            written = await load(channel, NAME, data, payloads)
            ours.append(time.perf_counter() - started)
            assert written == data.rows
            await _check(connection, data)
            await drop(channel, NAME)
    finally:
        await connection.execute(f"DROP TABLE IF EXISTS {RAW_TABLE}")
        await connection.close()
    ratios = [theirs / mine for theirs, mine in zip(raw, ours, strict=True)]
    return {
        "ingest_rows_per_s": round(data.rows / statistics.median(ours)),
        "ingest_raw_rows_per_s": round(data.rows / statistics.median(raw)),
        "ingest_ratio": round(statistics.median(ratios), 3),
        "ingest_spread": round((max(ratios) - min(ratios)) / statistics.median(ratios), 3),
        "ingest_chunk": CHUNK,
    }


async def create(channel: grpc.aio.Channel, name: str, data: Rows) -> None:
    """Make a collection whose index comes later, when it is asked for."""
    collection = Collection(
        name=name,
        dimension=data.vectors.shape[1],
        index=IndexOptions(min_points=2**31 - 1),
    )
    request = CreateCollectionRequest(collection=collection)
    await CollectionServiceStub(channel).CreateCollection(request)


async def drop(channel: grpc.aio.Channel, name: str) -> None:
    request = DeleteCollectionRequest(collection=name)
    await CollectionServiceStub(channel).DeleteCollection(request)


async def load(
    channel: grpc.aio.Channel, name: str, data: Rows, payloads: Sequence[bytes] | None = None
) -> int:
    """Write all rows by one stream; return how many were new."""

    async def chunks() -> AsyncIterator[BulkUpsertPointsRequest]:
        for start in range(0, data.rows, CHUNK):
            rows = range(start, min(start + CHUNK, data.rows))
            yield BulkUpsertPointsRequest(
                collection=name,
                ids=[str(row) for row in rows],
                vectors=data.vectors[rows.start : rows.stop].tobytes(),
                payloads=payloads[rows.start : rows.stop]
                if payloads
                else [orjson.dumps(data.payload(row)) for row in rows],
            )

    response = await PointServiceStub(channel).BulkUpsertPoints(chunks())
    return int(response.inserted)


async def _raw_seconds(
    connection: asyncpg.Connection, data: Rows, payloads: Sequence[bytes]
) -> float:
    table = await connection.fetchval(
        "SELECT collection_id FROM vector.collections WHERE name = $1", NAME
    )
    await connection.execute(f"DROP TABLE IF EXISTS {RAW_TABLE}")
    await connection.execute(f"CREATE TABLE {RAW_TABLE} (LIKE vector.points_{table} INCLUDING ALL)")
    started = time.perf_counter()
    for start in range(0, data.rows, CHUNK):
        rows = range(start, min(start + CHUNK, data.rows))
        sent = copy_rows(
            [str(row) for row in rows],
            encode_vectors(data.vectors[rows.start : rows.stop]),
            payloads[rows.start : rows.stop],
            [None] * len(rows),
        )
        await _copy(connection, sent)
    return time.perf_counter() - started


async def _copy(connection: asyncpg.Connection, sent: bytes) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield sent

    await connection.copy_to_table(
        RAW_TABLE,
        source=source(),
        columns=["id", "embedding", "payload", "expires_at"],
        format="binary",
    )


async def _check(connection: asyncpg.Connection, data: Rows) -> None:
    """Both tables hold the same rows."""
    table = await connection.fetchval(
        "SELECT collection_id FROM vector.collections WHERE name = $1", NAME
    )
    differing = await connection.fetchval(
        f"SELECT count(*) FROM vector.points_{table} AS ours FULL JOIN {RAW_TABLE} AS raw"
        " USING (id) WHERE ours.embedding IS DISTINCT FROM raw.embedding"
        " OR ours.payload IS DISTINCT FROM raw.payload"
    )
    assert differing == 0, f"{differing} rows differ"
    assert await connection.fetchval(f"SELECT count(*) FROM {RAW_TABLE}") == data.rows
