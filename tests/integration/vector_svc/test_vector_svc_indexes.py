"""Indexes are built in the background, and whatever ends a build, searches go on."""

import asyncio
from typing import Any

import asyncpg
import numpy as np
import orjson
import pytest
from vector_svc_harness import (
    Client,
    limit_memory,
    needs_prlimit,
    point,
    raw,
    refused,
    serving,
    table_of,
)

from stepwire.api.vector.v1.collection_pb2 import (
    FIELD_TYPE_INT,
    INDEX_KIND_IVFFLAT,
    INDEX_KIND_NONE,
    INDEX_STATE_NONE,
    INDEX_STATE_READY,
    QUANTIZATION_BINARY,
    QUANTIZATION_HALF,
    Collection,
    IndexOptions,
    PromotedField,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    GetCollectionRequest,
    UpdateCollectionRequest,
)
from stepwire.api.vector.v1.index_service_pb2 import (
    INDEX_BUILD_STATE_CANCELLED,
    INDEX_BUILD_STATE_FAILED,
    INDEX_BUILD_STATE_PENDING,
    INDEX_BUILD_STATE_RUNNING,
    INDEX_BUILD_STATE_SUCCEEDED,
    BuildIndexRequest,
    CancelIndexBuildRequest,
    GetIndexBuildRequest,
    IndexBuild,
    ListIndexBuildsRequest,
)
from stepwire.api.vector.v1.search_service_pb2 import MeasureRecallRequest
from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from vector_svc.collections import store
from vector_svc.search.ports import Order
from vector_svc.search.records import Plan
from vector_svc.search.store import PostgresSearches, arguments_of
from vector_svc.store.database import open_connections

DIMENSION = 16
OPEN = {INDEX_BUILD_STATE_PENDING, INDEX_BUILD_STATE_RUNNING}
VECTORS = np.random.default_rng(3).standard_normal((300, DIMENSION)).astype("<f4")


WALK = Order(
    plan=Plan.INDEX,
    wanted=1,
    offset=0,
    filter=None,
    words=None,
    effort=40,
    candidates=4,
    depth=1,
    max_distance=None,
    payloads=True,
    vectors=False,
)


async def make(client: Client, **options: Any) -> None:
    wanted = Collection(name="things", dimension=DIMENSION, index=IndexOptions(**options))
    await client.collections.CreateCollection(CreateCollectionRequest(collection=wanted))
    await client.upsert([point(str(n), vector) for n, vector in enumerate(VECTORS)])


async def build(client: Client, **options: Any) -> IndexBuild:
    request = BuildIndexRequest(collection="things", **options)
    return (await client.indexes.BuildIndex(request)).build


async def ended(client: Client, build_id: str) -> IndexBuild:
    found: list[IndexBuild] = []

    async def look() -> bool:
        request = GetIndexBuildRequest(build_id=build_id)
        found[:] = [(await client.indexes.GetIndexBuild(request)).build]
        return found[0].state not in OPEN

    assert await eventually(look, 30), found
    return found[0]


async def state(client: Client) -> int:
    request = GetCollectionRequest(collection="things")
    return (await client.collections.GetCollection(request)).collection.index_state


async def indexes(url: str, tenant: str) -> list[str]:
    """The definitions of the collection's vector indexes, valid or not."""
    table = await table_of(url, tenant)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT pg_get_indexdef(indexrelid) AS made FROM pg_index"
            f" WHERE indrelid = '{table}'::regclass"
            " AND pg_get_indexdef(indexrelid) ~ 'USING (hnsw|ivfflat)'"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def builder(connection: asyncpg.Connection, *, but: int = 0) -> int:
    """The process of the build that waits for a lock, once there is one."""

    async def waiting() -> Any:
        return await connection.fetchval(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'stepwire-vector-index' AND pid <> $1"
            " AND datname = current_database()"
            " AND query ~ '^(CREATE|DROP) INDEX' AND wait_event_type = 'Lock'",
            but,
        )

    pid = await eventually(waiting, 30)
    assert pid, "no build waits"
    return int(pid)


async def walked(url: str, tenant: str) -> bool:
    """Whether a walk through the index, as the collection is now, uses the index that is there."""
    async with open_connections(url, application_name="test") as pool, pool.acquire() as connection:
        row = await connection.fetchrow(store.queries.find_collection, tenant, "things")
        assert row is not None
        nothing: Any = None
        searches = PostgresSearches(nothing, walks=nothing, hnsw_max_scan_tuples=1_000)
        prepared = searches.prepare(store.collection_of(row), WALK)
        arguments = arguments_of(prepared, VECTORS[:1])
        lines = await connection.fetch(f"EXPLAIN {prepared.statement}", *arguments)
    return any("Index Scan using points_" in line[0] and "embedding" in line[0] for line in lines)


async def measured(url: str, tenant: str) -> list[Any]:
    """The figures that are kept of the index that the collection has now."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchval(
            "SELECT figures FROM vector.recalls JOIN vector.collections"
            " USING (collection_id, tenant_id, index_built) WHERE tenant_id = $1",
            tenant,
        )
        return list(orjson.loads(found or "[]"))
    finally:
        await connection.close()


async def nearest(client: Client) -> str:
    return (await client.search(VECTORS[7], limit=1))[0].point.id


async def test_an_index_comes_by_itself(own_url: str, tenant: str) -> None:
    async with serving(own_url, index_build_seconds=0.1) as client:
        await make(client, min_points=300)

        async def ready() -> bool:
            return await state(client) == INDEX_STATE_READY

        assert await eventually(ready, 30)
        assert await nearest(client) == "7"
        response = await client.indexes.ListIndexBuilds(ListIndexBuildsRequest(collection="things"))
        [done] = response.builds
        assert done.state == INDEX_BUILD_STATE_SUCCEEDED
        assert done.progress == 1
        assert done.estimated_memory_bytes > 300 * DIMENSION * 4
    assert len(await indexes(own_url, tenant)) == 1


async def test_a_rebuild_takes_the_place_of_what_was_there(
    alone: Client, own_url: str, tenant: str
) -> None:
    await make(alone)
    kinds = [
        ({}, "USING hnsw (embedding vector_cosine_ops)"),
        ({"quantization": QUANTIZATION_HALF}, "halfvec_cosine_ops"),
        ({"quantization": QUANTIZATION_BINARY}, "bit_hamming_ops"),
        ({"kind": INDEX_KIND_IVFFLAT, "lists": 4}, "lists='4'"),
    ]
    for options, wanted in kinds:
        changed = Collection(name="things", index=IndexOptions(**options))
        request = UpdateCollectionRequest(collection=changed, update_mask={"paths": ["index"]})
        await alone.collections.UpdateCollection(request)
        assert await state(alone) == INDEX_STATE_NONE or await walked(own_url, tenant)
        done = await ended(alone, (await build(alone)).build_id)
        assert done.state == INDEX_BUILD_STATE_SUCCEEDED, done
        [found] = await indexes(own_url, tenant)
        assert wanted in found
        assert await walked(own_url, tenant)
        assert await nearest(alone) == "7"
        # What was measured of the index before does not hold of this one.
        assert await measured(own_url, tenant) == []
        await alone.searches.MeasureRecall(MeasureRecallRequest(collection="things", samples=1))
        assert await measured(own_url, tenant) != []
    changed = Collection(name="things", index=IndexOptions(kind=INDEX_KIND_NONE))
    request = UpdateCollectionRequest(collection=changed, update_mask={"paths": ["index"]})
    await alone.collections.UpdateCollection(request)
    assert (await ended(alone, (await build(alone)).build_id)).state == (
        INDEX_BUILD_STATE_SUCCEEDED
    )
    assert await indexes(own_url, tenant) == []
    assert await state(alone) == INDEX_STATE_NONE


async def test_a_build_beyond_the_memory_is_refused_unless_allowed(
    alone: Client, own_url: str, tenant: str
) -> None:
    wide = Collection(name="things", dimension=2_000, index=IndexOptions(m=100))
    wide.index.ef_construction = 200
    await alone.collections.CreateCollection(CreateCollectionRequest(collection=wide))
    table = await table_of(own_url, tenant)
    connection = await asyncpg.connect(own_url)
    try:
        # As many points as do not fit, without their vectors' bytes: a view of one row.
        await connection.execute(
            f"ALTER TABLE {table} RENAME TO real;"
            f"CREATE VIEW {table} AS SELECT now() + interval '1 day' AS expires_at"
            " FROM generate_series(1, 60000);"
            f"GRANT SELECT ON {table} TO PUBLIC"
        )
        async with refused() as error:
            await build(alone)
        allowed = await build(alone, allow_slow=True)
        await ended(alone, allowed.build_id)
    finally:
        await connection.execute(
            f"DROP VIEW {table}; ALTER TABLE vector.real RENAME TO {table.partition('.')[2]}"
        )
        await connection.close()
    assert error().reason is Reason.INDEX_TOO_LARGE
    assert error().metadata["collection"] == "things"
    assert int(error().metadata["estimated_bytes"]) > int(error().metadata["limit_bytes"])
    assert allowed.estimated_memory_bytes == int(error().metadata["estimated_bytes"])
    assert allowed.memory_bytes == int(error().metadata["limit_bytes"])


async def test_a_build_that_is_cut_off_is_done_by_another(
    alone: Client, own_url: str, tenant: str
) -> None:
    """A transaction that is older keeps the build waiting while its process dies."""
    await make(alone)
    table = await table_of(own_url, tenant)
    older, watching = await asyncpg.connect(own_url), await asyncpg.connect(own_url)

    try:
        async with older.transaction():
            await older.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
            begun = await build(alone)
            assert (await build(alone)).build_id == begun.build_id
            first = await builder(watching)
            assert await nearest(alone) == "7"
            await watching.execute("SELECT pg_terminate_backend($1)", first)
            assert await builder(watching, but=first) != first
        done = await ended(alone, begun.build_id)
    finally:
        await older.close()
        await watching.close()
    assert done.state == INDEX_BUILD_STATE_SUCCEEDED
    assert len(await indexes(own_url, tenant)) == 1


async def test_a_build_that_is_cut_off_behind_its_index_keeps_it(own_url: str, tenant: str) -> None:
    """A reader keeps the index before from being dropped, which is the last to be done."""
    reader, watching = await asyncpg.connect(own_url), await asyncpg.connect(own_url)
    try:
        async with serving(own_url, index_build_seconds=0.1) as client:
            await make(client)
            await ended(client, (await build(client)).build_id)
            table = await table_of(own_url, tenant)
            async with reader.transaction():
                await reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
                begun = await build(client)
                first = await builder(watching)
                made = await indexes(own_url, tenant)
                await watching.execute("SELECT pg_terminate_backend($1)", first)
                assert await builder(watching, but=first) != first
            done = await ended(client, begun.build_id)
    finally:
        await reader.close()
        await watching.close()
    assert done.state == INDEX_BUILD_STATE_SUCCEEDED, done
    [kept] = await indexes(own_url, tenant)
    assert kept in made


async def test_a_build_can_be_ended_before_there_is_an_index_to_make(
    alone: Client, own_url: str, tenant: str
) -> None:
    """A reader keeps what an earlier one left half made from being dropped, which comes first."""
    await make(alone)
    await ended(alone, (await build(alone)).build_id)
    table = await table_of(own_url, tenant)
    reader, watching = await asyncpg.connect(own_url), await asyncpg.connect(own_url)
    try:
        await watching.execute(
            "UPDATE pg_index SET indisvalid = false"
            f" WHERE indrelid = '{table}'::regclass AND pg_get_indexdef(indexrelid) ~ 'USING hnsw'"
        )
        async with reader.transaction():
            await reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
            begun = await build(alone)
            await builder(watching)
            request = CancelIndexBuildRequest(build_id=begun.build_id)
            await alone.indexes.CancelIndexBuild(request)

        async def idle() -> bool:
            return not await watching.fetch(
                "SELECT FROM pg_stat_activity WHERE application_name = 'stepwire-vector-index'"
                " AND datname = current_database()"
            )

        assert await eventually(idle, 30)
    finally:
        await reader.close()
        await watching.close()
    assert await indexes(own_url, tenant) == []


async def test_fields_are_not_changed_while_the_points_are_held(
    alone: Client, own_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does the build of an index end by it, nor do others wait for both."""
    monkeypatch.setattr(store, "LOCK_TIMEOUT", "100ms")
    await make(alone)
    table = await table_of(own_url, tenant)
    changed = Collection(name="things", fields=[PromotedField(name="n", type=FIELD_TYPE_INT)])
    update = UpdateCollectionRequest(collection=changed, update_mask={"paths": ["fields"]})
    older = await asyncpg.connect(own_url)
    try:
        async with older.transaction():
            await older.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
            begun = await build(alone)
            async with refused() as building:
                await alone.collections.UpdateCollection(update)
            assert await nearest(alone) == "7"
        assert (await ended(alone, begun.build_id)).state == INDEX_BUILD_STATE_SUCCEEDED
        async with older.transaction():
            await older.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
            async with refused() as reading:
                await alone.collections.UpdateCollection(update)
    finally:
        await older.close()
    for error, use in ((building(), "index_build"), (reading(), "reads")):
        assert error.reason is Reason.COLLECTION_BUSY
        assert error.metadata == {"collection": "things", "use": use}
    made = (await alone.collections.UpdateCollection(update)).collection
    assert [field.name for field in made.fields] == ["n"]


async def test_a_build_can_be_ended(alone: Client, own_url: str, tenant: str) -> None:
    await make(alone)
    table = await table_of(own_url, tenant)
    older = await asyncpg.connect(own_url)
    try:
        async with older.transaction():
            await older.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
            begun = await build(alone)
            request = CancelIndexBuildRequest(build_id=begun.build_id)
            cancelled = (await alone.indexes.CancelIndexBuild(request)).build
            assert cancelled.state == INDEX_BUILD_STATE_CANCELLED
    finally:
        await older.close()
    assert (await alone.indexes.CancelIndexBuild(request)).build == cancelled
    again = await ended(alone, (await build(alone)).build_id)
    assert again.state == INDEX_BUILD_STATE_SUCCEEDED
    assert len(await indexes(own_url, tenant)) == 1


async def test_a_build_that_fails_says_why_and_leaves_nothing(
    alone: Client, own_url: str, tenant: str
) -> None:
    await make(alone)
    connection = await asyncpg.connect(own_url)
    try:
        # As a full disk would: the statement fails in the middle.
        await connection.execute(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;"
            "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
            " EXECUTE FUNCTION refuse()"
        )
        failed = await ended(alone, (await build(alone)).build_id)
        await connection.execute("DROP EVENT TRIGGER refuse")
    finally:
        await connection.close()
    assert failed.state == INDEX_BUILD_STATE_FAILED
    assert failed.failure == "no space left"
    assert await indexes(own_url, tenant) == []
    assert await nearest(alone) == "7"


@needs_prlimit
async def test_a_build_that_runs_out_of_memory_says_so_and_leaves_nothing(
    alone: Client, own_url: str, tenant: str, postgres: PostgresServer
) -> None:
    """Its process gets no more memory from the moment on at which it is to begin."""
    await make(alone)
    table = await table_of(own_url, tenant)
    older, watching = await asyncpg.connect(own_url), await asyncpg.connect(own_url)
    try:
        async with older.transaction():
            await older.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
            begun = await build(alone)
            await limit_memory(postgres, [await builder(watching)], "1:")
        failed = await ended(alone, begun.build_id)
    finally:
        await older.close()
        await watching.close()
    assert failed.state == INDEX_BUILD_STATE_FAILED
    assert failed.failure.startswith("out of memory")
    assert await indexes(own_url, tenant) == []
    assert await nearest(alone) == "7"
    again = await ended(alone, (await build(alone)).build_id)
    assert again.state == INDEX_BUILD_STATE_SUCCEEDED


async def test_builds_that_are_not_there_are_not_found(alone: Client) -> None:
    for build_id, reason in (
        ("0198c9a0-0000-7000-8000-000000000000", Reason.INDEX_BUILD_NOT_FOUND),
        ("x", Reason.FIELD_INVALID),
    ):
        async with refused() as error:
            await alone.indexes.GetIndexBuild(GetIndexBuildRequest(build_id=build_id))
        assert error().reason is reason


async def test_a_collection_is_deleted_while_its_index_is_built(
    alone: Client, own_url: str, tenant: str
) -> None:
    await make(alone)
    older = await asyncpg.connect(own_url)
    try:
        transaction = older.transaction()
        await transaction.start()
        await older.execute("SELECT txid_current()")
        await build(alone)
        dropping = asyncio.create_task(alone.drop())
        await asyncio.sleep(0)
        await transaction.rollback()
        await dropping
    finally:
        await older.close()
    async with refused() as error:
        await alone.search(raw(VECTORS[0]))
    assert error().reason is Reason.COLLECTION_NOT_FOUND
