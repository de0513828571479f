"""Indexes are built in the background, and whatever ends a build, searches go on."""

import asyncio
from typing import Any

import asyncpg
import numpy as np
from vector_svc_harness import Client, point, raw, refused, serving

from stepwire.api.vector.v1.collection_pb2 import (
    INDEX_KIND_IVFFLAT,
    INDEX_KIND_NONE,
    INDEX_STATE_NONE,
    INDEX_STATE_READY,
    QUANTIZATION_BINARY,
    QUANTIZATION_HALF,
    Collection,
    IndexOptions,
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
from stepwire.errors import Reason
from stepwire.testing.poll import eventually

DIMENSION = 16
OPEN = {INDEX_BUILD_STATE_PENDING, INDEX_BUILD_STATE_RUNNING}
VECTORS = np.random.default_rng(3).standard_normal((300, DIMENSION)).astype("<f4")


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


async def indexes(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT indexdef FROM pg_indexes WHERE indexdef ~ 'USING (hnsw|ivfflat)'"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def nearest(client: Client) -> str:
    return (await client.search(VECTORS[7], limit=1))[0].point.id


async def test_an_index_comes_by_itself(database_url: str) -> None:
    async with serving(database_url, index_build_seconds=0.1) as client:
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
    assert len(await indexes(database_url)) == 1


async def test_a_rebuild_takes_the_place_of_what_was_there(
    client: Client, database_url: str
) -> None:
    await make(client)
    kinds = [
        ({}, "USING hnsw (embedding vector_cosine_ops)"),
        ({"quantization": QUANTIZATION_HALF}, "halfvec_cosine_ops"),
        ({"quantization": QUANTIZATION_BINARY}, "bit_hamming_ops"),
        ({"kind": INDEX_KIND_IVFFLAT, "lists": 4}, "lists='4'"),
    ]
    for options, wanted in kinds:
        changed = Collection(name="things", index=IndexOptions(**options))
        request = UpdateCollectionRequest(collection=changed, update_mask={"paths": ["index"]})
        await client.collections.UpdateCollection(request)
        done = await ended(client, (await build(client)).build_id)
        assert done.state == INDEX_BUILD_STATE_SUCCEEDED, done
        [found] = await indexes(database_url)
        assert wanted in found
        assert await nearest(client) == "7"
    changed = Collection(name="things", index=IndexOptions(kind=INDEX_KIND_NONE))
    request = UpdateCollectionRequest(collection=changed, update_mask={"paths": ["index"]})
    await client.collections.UpdateCollection(request)
    assert (await ended(client, (await build(client)).build_id)).state == (
        INDEX_BUILD_STATE_SUCCEEDED
    )
    assert await indexes(database_url) == []
    assert await state(client) == INDEX_STATE_NONE


async def test_a_build_beyond_the_memory_is_refused_unless_allowed(
    client: Client, database_url: str
) -> None:
    wide = Collection(name="things", dimension=2_000, index=IndexOptions(m=100))
    wide.index.ef_construction = 200
    await client.collections.CreateCollection(CreateCollectionRequest(collection=wide))
    connection = await asyncpg.connect(database_url)
    try:
        # As many points as do not fit, without their vectors' bytes: a view of one row.
        await connection.execute(
            "ALTER TABLE vector.points_1 RENAME TO real;"
            "CREATE VIEW vector.points_1 AS SELECT now() + interval '1 day' AS expires_at"
            " FROM generate_series(1, 60000);"
            "GRANT SELECT ON vector.points_1 TO PUBLIC"
        )
    finally:
        await connection.close()
    async with refused() as error:
        await build(client)
    assert error().reason is Reason.INDEX_TOO_LARGE
    assert error().metadata["collection"] == "things"
    assert int(error().metadata["estimated_bytes"]) > int(error().metadata["limit_bytes"])


async def test_a_build_that_is_cut_off_is_done_by_another(
    client: Client, database_url: str
) -> None:
    """A transaction that is older keeps the build waiting while its process dies."""
    await make(client)
    older, watching = await asyncpg.connect(database_url), await asyncpg.connect(database_url)

    async def backend() -> Any:
        return await watching.fetchval(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'stepwire-vector-index'"
            " AND query ~ '^(CREATE|DROP) INDEX' AND wait_event_type = 'Lock'"
        )

    try:
        async with older.transaction():
            await older.execute("LOCK TABLE vector.points_1 IN ROW EXCLUSIVE MODE")
            begun = await build(client)
            assert (await build(client)).build_id == begun.build_id
            first = await eventually(backend)
            assert await nearest(client) == "7"
            await watching.execute("SELECT pg_terminate_backend($1)", first)
            assert await eventually(backend, 30) != first
        done = await ended(client, begun.build_id)
    finally:
        await older.close()
        await watching.close()
    assert done.state == INDEX_BUILD_STATE_SUCCEEDED
    assert len(await indexes(database_url)) == 1


async def test_a_build_can_be_ended(client: Client, database_url: str) -> None:
    await make(client)
    older = await asyncpg.connect(database_url)
    try:
        async with older.transaction():
            await older.execute("LOCK TABLE vector.points_1 IN ROW EXCLUSIVE MODE")
            begun = await build(client)
            request = CancelIndexBuildRequest(build_id=begun.build_id)
            cancelled = (await client.indexes.CancelIndexBuild(request)).build
            assert cancelled.state == INDEX_BUILD_STATE_CANCELLED
    finally:
        await older.close()
    assert (await client.indexes.CancelIndexBuild(request)).build == cancelled
    again = await ended(client, (await build(client)).build_id)
    assert again.state == INDEX_BUILD_STATE_SUCCEEDED
    assert len(await indexes(database_url)) == 1


async def test_a_build_that_fails_says_why_and_leaves_nothing(
    client: Client, database_url: str
) -> None:
    await make(client)
    connection = await asyncpg.connect(database_url)
    try:
        # As a full disk would: the statement fails in the middle.
        await connection.execute(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;"
            "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
            " EXECUTE FUNCTION refuse()"
        )
        failed = await ended(client, (await build(client)).build_id)
        await connection.execute("DROP EVENT TRIGGER refuse")
    finally:
        await connection.close()
    assert failed.state == INDEX_BUILD_STATE_FAILED
    assert failed.failure == "no space left"
    assert await indexes(database_url) == []
    assert await nearest(client) == "7"


async def test_builds_that_are_not_there_are_not_found(client: Client) -> None:
    for build_id, reason in (
        ("0198c9a0-0000-7000-8000-000000000000", Reason.INDEX_BUILD_NOT_FOUND),
        ("x", Reason.FIELD_INVALID),
    ):
        async with refused() as error:
            await client.indexes.GetIndexBuild(GetIndexBuildRequest(build_id=build_id))
        assert error().reason is reason


async def test_a_collection_is_deleted_while_its_index_is_built(
    client: Client, database_url: str
) -> None:
    await make(client)
    older = await asyncpg.connect(database_url)
    try:
        transaction = older.transaction()
        await transaction.start()
        await older.execute("SELECT txid_current()")
        await build(client)
        dropping = asyncio.create_task(client.drop())
        await asyncio.sleep(0)
        await transaction.rollback()
        await dropping
    finally:
        await older.close()
    async with refused() as error:
        await client.search(raw(VECTORS[0]))
    assert error().reason is Reason.COLLECTION_NOT_FOUND
