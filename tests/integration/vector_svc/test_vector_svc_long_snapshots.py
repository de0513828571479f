"""Snapshots take as long as they take; what stands still, leaves or stops ends cleanly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio
from vector_svc_harness import Client, point, refused, serving, table_of, tables_of

from stepwire.api.vector.v1.collection_pb2 import METRIC_DOT, TextOptions
from stepwire.api.vector.v1.collection_service_pb2 import GetCollectionRequest
from stepwire.api.vector.v1.search_pb2 import WordQuery
from stepwire.api.vector.v1.snapshot_service_pb2 import (
    ExportCollectionRequest,
    ImportCollectionRequest,
)
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error
from stepwire.testing.poll import eventually
from vector_svc.collections.registry import Collections
from vector_svc.collections.store import PostgresCollections
from vector_svc.snapshots import rows
from vector_svc.snapshots.pace import Limits
from vector_svc.snapshots.snapshots import Snapshots
from vector_svc.snapshots.store import PostgresSnapshots
from vector_svc.store.database import Database, open_connections

# More than all that is on its way to a caller who does not read.
ROWS = 8_000
DIMENSION = 2_000
BACKENDS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name"
# Each at a limit of its own, since who does not wait for it must not meet it.
PATIENT = {"snapshot_stall_seconds": 300}
HASTY = {"snapshot_stall_seconds": 0.3}


@pytest_asyncio.fixture
async def watching(own_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_url)
    yield connection
    await connection.close()


async def fill(client: Client, url: str, tenant: str) -> str:
    """Make a collection of 64 MB; return its table."""
    await client.create(dimension=DIMENSION, metric=METRIC_DOT)
    table = await table_of(url, tenant)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"INSERT INTO {table} (id, embedding, payload)"
            " SELECT n::text, array_fill(0.5::real, ARRAY[2000])::vector, '{}'"
            f" FROM generate_series(1, {ROWS}) AS n"
        )
    finally:
        await connection.close()
    return table


def exporting(client: Client, **options: Any) -> Any:
    return client.snapshots.ExportCollection(
        ExportCollectionRequest(collection="things"), **options
    )


async def begun(client: Client) -> Any:
    """Begin an export as soon as one may; return it behind its first part."""
    calls: list[Any] = []

    async def begin() -> bool:
        calls.append(exporting(client))
        try:
            return bool(await calls[-1].read())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return False

    assert await eventually(begin, 30)
    return calls[-1]


async def until_held_back(watching: asyncpg.Connection) -> None:
    """Wait until Postgres waits for who reads an export."""

    async def held_back() -> Any:
        return await watching.fetchval(
            f"SELECT count(*) {BACKENDS} = 'stepwire-vector-snapshots'"
            " AND wait_event = 'ClientWrite'"
        )

    assert await eventually(held_back, 30)


async def until_waiting(watching: asyncpg.Connection, count: int) -> None:
    """Wait until so many snapshots wait for a lock."""

    async def waiting() -> bool:
        found = await watching.fetchval(
            f"SELECT count(*) {BACKENDS} = 'stepwire-vector-snapshots' AND wait_event_type = 'Lock'"
        )
        return bool(found == count)

    assert await eventually(waiting, 30)


async def until_over(watching: asyncpg.Connection) -> None:
    """Wait until no snapshot has a statement or a transaction any more."""

    async def over() -> bool:
        count = await watching.fetchval(
            f"SELECT count(*) {BACKENDS} = 'stepwire-vector-snapshots' AND state <> 'idle'"
        )
        return bool(count == 0)

    assert await eventually(over, 30)


async def ended(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def read_on(call: Any) -> grpc.aio.AioRpcError:
    """Read what there is to its end; return what that is."""

    async def read() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    return await ended(read())


async def test_no_snapshot_is_too_long_for_a_statement(
    alone: Client, own_url: str, tenant: str
) -> None:
    await fill(alone, own_url, tenant)
    async with open_connections(own_url, application_name="test") as pool:
        short = Database(pool, acquire_seconds=5, statement_seconds=0.001)
        long = Database(pool, acquire_seconds=5, statement_seconds=60)
        made = Snapshots(
            PostgresSnapshots(short, payload_max_bytes=2),
            Collections(PostgresCollections(long), cache_entries=1),
            Limits(most=1, stall_seconds=300, max_seconds=600),
        )

        async def carried() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        parts = [part async for part in made.dump(tenant, "things")]
        copy = await made.restore(tenant, "copy", carried())
        assert copy.point_count == ROWS
        await short.close()
        await long.close()


async def test_who_reads_slowly_holds_postgres_back_and_who_leaves_frees_it(
    alone: Client, own_url: str, tenant: str, watching: asyncpg.Connection
) -> None:
    await fill(alone, own_url, tenant)
    async with serving(own_url, **PATIENT, max_snapshots=1) as client:
        assert await exporting(client, timeout=1).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until_over(watching)
        call = await begun(client)
        await until_held_back(watching)
        async with refused() as error:
            await exporting(client).read()
        assert error().metadata == {"limit": "max_snapshots"}
        call.cancel()
        await until_over(watching)
        call, size = await begun(client), 0
        while (part := await call.read()) is not grpc.aio.EOF:
            size += len(part.data)
        assert size > (ROWS - 100) * DIMENSION * 4


async def test_an_export_that_nobody_reads_is_cut_off(
    alone: Client, own_url: str, tenant: str, watching: asyncpg.Connection
) -> None:
    table = await fill(alone, own_url, tenant)
    async with serving(own_url, **HASTY) as client:
        call = exporting(client)
        assert await call.read()
        await until_over(watching)
        error = from_rpc_error(await read_on(call))
        assert error is not None
        assert (error.reason, error.metadata["waited_for"]) == (Reason.SNAPSHOT_CUT_OFF, "caller")
        async with watching.transaction():
            await watching.execute(f"LOCK TABLE {table}")
            told = from_rpc_error(await read_on(exporting(client)))
        assert told is not None
        assert (told.reason, told.metadata["waited_for"]) == (Reason.SNAPSHOT_CUT_OFF, "postgres")


async def test_snapshots_of_a_service_that_stops_say_so(
    alone: Client, own_url: str, watching: asyncpg.Connection, tenant: str
) -> None:
    await alone.create()
    locking = await asyncpg.connect(own_url)
    try:
        async with locking.transaction():
            await locking.execute(f"LOCK TABLE {await table_of(own_url, tenant)}")
            async with serving(own_url, drain_seconds=1, snapshot_stall_seconds=300) as client:
                calls = [exporting(client).read(), client.snapshots.ImportCollection(silence())]
                under_way = [asyncio.create_task(ended(call)) for call in calls]
                await until_waiting(watching, 1)
                await client.server.drain(grace_seconds=60)
                told = [from_rpc_error(error) for error in await asyncio.gather(*under_way)]
    finally:
        await locking.close()
    for error in told:
        assert error is not None
        assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert error.metadata == {"dependency": "vector"}
    await until_over(watching)


async def silence() -> AsyncIterator[ImportCollectionRequest]:
    """Send a first message, and nothing more."""
    yield ImportCollectionRequest(collection="copy")
    await asyncio.Event().wait()


async def part_way(client: Client, data: bytes) -> Any:
    """Begin an import of all but the end."""
    call = client.snapshots.ImportCollection()
    await call.write(ImportCollectionRequest(collection="copy", data=data[:-20]))
    return call


async def test_an_import_that_is_left_leaves_nothing(
    alone: Client,
    own_url: str,
    tenant: str,
    watching: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its caller goes, or falls silent; others may take its name all the time."""
    monkeypatch.setattr(rows, "PIECE_ROWS", 1)
    await alone.create()
    await alone.upsert([point(str(n), [1, 2, n]) for n in range(100)])
    data = b"".join([part.data async for part in exporting(alone)])

    async def under_way() -> Any:
        return await watching.fetchval(
            f"SELECT count(*) {BACKENDS} = 'stepwire-vector-snapshots'"
            " AND state = 'idle in transaction' AND query LIKE 'COPY%'"
        )

    async with serving(own_url, **PATIENT) as client:
        call = await part_way(client, data)
        assert await eventually(under_way, 30)
        await client.create("copy")
        await client.drop("copy")
        call.cancel()
        await until_over(watching)
        call = await part_way(client, data)
        assert await eventually(under_way, 30)
        await client.create("copy")
        await call.write(ImportCollectionRequest(data=data[-20:]))
        await call.done_writing()
        taken = from_rpc_error(await ended(call))
        assert taken is not None
        assert taken.reason is Reason.COLLECTION_EXISTS
        await client.drop("copy")
    async with serving(own_url, **HASTY) as client:
        silent = from_rpc_error(await ended(await part_way(client, data)))
        assert silent is not None
        assert (silent.reason, silent.metadata["waited_for"]) == (
            Reason.SNAPSHOT_CUT_OFF,
            "caller",
        )
    await until_over(watching)
    assert len(await tables_of(own_url, tenant)) == 1
    async with refused() as error:
        await alone.collections.GetCollection(GetCollectionRequest(collection="copy"))
    assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_words_come_with_their_points_piece_by_piece(
    alone: Client, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 7)
    await alone.create(text=TextOptions(field="body"))
    texts = ["boat and bread", "bread of stone", "the tide", "a boat, a boat"]
    await alone.upsert(
        [point(str(n), [1, 2, n], {"body": texts[n % 4] + " mooring" * (n % 3)}) for n in range(50)]
    )
    data = b"".join([part.data async for part in exporting(alone)])

    def sent() -> Iterator[ImportCollectionRequest]:
        yield ImportCollectionRequest(collection="copy")
        yield ImportCollectionRequest(data=data)

    await alone.snapshots.ImportCollection(sent())
    for words in ("boat", "mooring bread", "tide"):
        query = WordQuery(words=words)
        found, there = [
            [(hit.point.id, hit.score) for hit in (await alone.find(name=name, words=query)).points]
            for name in ("copy", "things")
        ]
        assert found == there
        assert found
