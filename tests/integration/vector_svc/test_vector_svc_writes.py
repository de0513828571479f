"""Conditional writes, many at once, payloads changed, points listed, counted and expired."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc.aio
import numpy as np
import orjson
from vector_svc_harness import Client, containing, point, raw, refused, serving, table_of

from stepwire.api.vector.v1.collection_pb2 import Collection
from stepwire.api.vector.v1.collection_service_pb2 import CreateCollectionRequest
from stepwire.api.vector.v1.filter_pb2 import Filter
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.point_service_pb2 import (
    UPSERT_MODE_INSERT_ONLY,
    UPSERT_MODE_UPDATE_ONLY,
    BulkUpsertPointsRequest,
    BulkUpsertPointsResponse,
    CountPointsRequest,
    DeletePointsRequest,
    FacetPointsRequest,
    GetPointsRequest,
    ScrollPointsRequest,
    UpdatePayloadsRequest,
    UpsertPointsRequest,
)
from stepwire.errors import Reason
from stepwire.testing.poll import eventually

V = [1.0, 2.0, 3.0]


async def write(client: Client, *points: Point, mode: Any = 0) -> tuple[int, int, int]:
    request = UpsertPointsRequest(collection="things", points=points, mode=mode)
    response = await client.points.UpsertPoints(request)
    return response.upserted, response.inserted, response.updated


async def payloads(client: Client, *ids: str) -> list[Any]:
    return [dict(found.payload) for found in await client.get(ids)]


async def hash_of(client: Client, point_id: str) -> str:
    request = GetPointsRequest(collection="things", ids=[point_id], include_hashes=True)
    [found] = (await client.points.GetPoints(request)).points
    return str(found.content_hash)


async def update_payloads(client: Client, **request: Any) -> int:
    message = UpdatePayloadsRequest(collection="things", **request)
    return int((await client.points.UpdatePayloads(message)).updated)


async def bulk(client: Client, *messages: BulkUpsertPointsRequest) -> BulkUpsertPointsResponse:
    async def sent() -> AsyncIterator[BulkUpsertPointsRequest]:
        for message in messages:
            yield message

    return await client.points.BulkUpsertPoints(sent())


def columns(ids: list[str], name: str = "things", **more: Any) -> BulkUpsertPointsRequest:
    vectors = np.random.default_rng(len(ids)).standard_normal((len(ids), 3)).astype("<f4")
    parts = {"payloads": [orjson.dumps({"id": i}) for i in ids], "vectors": vectors.tobytes()}
    return BulkUpsertPointsRequest(collection=name, ids=ids, **{**parts, **more})


async def test_writes_tell_what_they_did(client: Client) -> None:
    await client.create()
    assert await write(client, point("a", V), point("b", V)) == (2, 2, 0)
    assert await write(client, point("a", V), point("b", V, {"n": 1})) == (2, 0, 1)
    assert await write(client, point("b", V), point("c", V), mode=UPSERT_MODE_INSERT_ONLY) == (
        1,
        1,
        0,
    )
    assert await payloads(client, "b") == [{"n": 1}]
    assert await write(client, point("b", V), point("d", V), mode=UPSERT_MODE_UPDATE_ONLY) == (
        1,
        0,
        1,
    )
    assert [found.id for found in await client.get(["a", "b", "c", "d"])] == ["a", "b", "c"]


async def test_a_write_that_expects_other_contents_writes_nothing(client: Client) -> None:
    await client.create()
    await client.upsert([point("a", V, {"n": 1}), point("b", V)])
    first = await hash_of(client, "a")
    changed = point("a", V, {"n": 2})
    changed.content_hash = first
    assert await write(client, changed) == (1, 0, 1)
    again = point("a", V, {"n": 3})
    again.content_hash = first
    async with refused() as error:
        await write(client, point("b", V, {"n": 9}), again)
    assert error().reason is Reason.POINT_CHANGED
    assert error().metadata == {"collection": "things", "point_id": "a"}
    assert await payloads(client, "a", "b") == [{"n": 2}, {}]
    # As if its answer had been lost: what is stored so already is no change between.
    assert await write(client, point("c", V), changed) == (2, 1, 0)
    missing = point("z", V)
    missing.content_hash = first
    async with refused() as error:
        await write(client, missing)
    assert error().reason is Reason.POINT_CHANGED


async def test_of_writers_that_expect_the_same_contents_one_wins(client: Client) -> None:
    await client.create()
    await client.upsert([point("a", V, {"n": 0})])
    expected = await hash_of(client, "a")

    async def attempt(n: int) -> bool:
        wanted = point("a", V, {"n": n})
        wanted.content_hash = expected
        try:
            await write(client, wanted)
        except grpc.aio.AioRpcError:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(n) for n in range(1, 9)))) == 1


async def test_payloads_are_set_merged_and_cut(client: Client) -> None:
    await client.create()
    await client.upsert([point(i, V, {"n": 1, "id": i}) for i in ("a", "b", "c")])
    assert await update_payloads(client, ids=["a", "z"], merge={"n": 2, "new": True}) == 1
    assert await update_payloads(client, ids=["a"], merge={"n": 2}) == 0
    assert await update_payloads(client, filter=containing(n=1), remove={"names": ["n"]}) == 2
    assert await update_payloads(client, ids=["c"], set={"only": "this"}) == 1
    assert await payloads(client, "a", "b", "c") == [
        {"n": 2, "id": "a", "new": True},
        {"id": "b"},
        {"only": "this"},
    ]
    half = "x" * 140_000
    assert await update_payloads(client, ids=["a"], merge={"one": half}) == 1
    async with refused() as error:
        await update_payloads(client, ids=["a", "b"], merge={"other": half})
    assert error().reason is Reason.PAYLOAD_TOO_LARGE
    assert error().metadata["point_id"] == "a"
    assert await payloads(client, "b") == [{"id": "b"}]
    for wrong in ({"ids": ["a"]}, {"set": {}}, {"ids": ["a"], "filter": Filter(), "set": {}}):
        async with refused() as error:
            await update_payloads(client, **wrong)
        assert error().reason is Reason.FIELD_INVALID


async def test_points_are_deleted_by_a_filter(client: Client) -> None:
    await client.create()
    await client.upsert([point(str(n), V, {"odd": n % 2}) for n in range(10)])
    request = DeletePointsRequest(collection="things", filter=containing(odd=1))
    assert (await client.points.DeletePoints(request)).deleted == 5
    assert await client.count() == 5
    async with refused() as error:
        await client.points.DeletePoints(DeletePointsRequest(collection="things"))
    assert error().reason is Reason.FIELD_INVALID
    request = DeletePointsRequest(collection="things", filter=Filter())
    assert (await client.points.DeletePoints(request)).deleted == 5


async def test_a_scroll_meets_every_point_once_by_id(client: Client) -> None:
    await client.create()
    ids = sorted(f"p{n}" for n in range(23))
    await client.upsert([point(i, V, {"even": n % 2 == 0}) for n, i in enumerate(ids)])
    for filter_, wanted in ((None, ids), (containing(even=True), ids[::2])):
        seen: list[str] = []
        token = ""
        while True:
            request = ScrollPointsRequest(
                collection="things",
                filter=filter_,
                page_size=5,
                page_token=token,
                include_vectors=True,
            )
            page = await client.points.ScrollPoints(request)
            assert all(found.vector == raw(V) for found in page.points)
            seen += [found.id for found in page.points]
            token = page.next_page_token
            if not token:
                break
        assert seen == wanted
    async with refused() as error:
        await client.points.ScrollPoints(ScrollPointsRequest(collection="things", page_token="x"))
    assert error().reason is Reason.PAGE_TOKEN_INVALID


async def test_points_are_counted_and_faceted(client: Client) -> None:
    await client.create()
    colors: list[Any] = ["red", "red", "blue", 3, 3, 3, True, None, [1]]
    await client.upsert([point(str(n), V, {"c": color}) for n, color in enumerate(colors)])

    async def count(**request: Any) -> int:
        message = CountPointsRequest(collection="things", **request)
        return int((await client.points.CountPoints(message)).count)

    assert await count() == 9
    assert await count(at_most=4) == 4
    assert await count(filter=containing(c="red")) == 2
    request = FacetPointsRequest(collection="things", field="c")
    facets = (await client.points.FacetPoints(request)).facets
    values = [(f.value.string_value or f.value.number_value, f.count) for f in facets]
    assert values[:2] == [(3, 3), ("red", 2)]
    assert [f.count for f in facets] == [3, 2, 1, 1]
    request = FacetPointsRequest(collection="things", field="c", limit=1)
    assert len((await client.points.FacetPoints(request)).facets) == 1
    async with refused() as error:
        await count(at_most=-1)
    assert error().reason is Reason.FIELD_INVALID


async def test_bulk_upserts_write_new_and_known_points(client: Client) -> None:
    await client.create()
    done = await bulk(client, columns(["c", "a", "b"]), columns(["d", "e"], ""))
    assert (done.upserted, done.inserted, done.updated) == (5, 5, 0)
    done = await bulk(client, columns(["c", "a", "b"]), columns(["a", "x"]), columns(["y"]))
    assert (done.upserted, done.inserted, done.updated) == (6, 2, 1)
    assert await client.count() == 7
    [found] = await client.get(["c"], include_vectors=True)
    assert found.payload["id"] == "c"
    sent = columns(["c", "a", "b"])
    assert found.vector == sent.vectors[:12]
    await bulk(client, columns(["bare"], payloads=[]))
    assert await payloads(client, "bare") == [{}]


BAD_COLUMNS: list[tuple[dict[str, Any], Reason]] = [
    ({"collection": "missing"}, Reason.COLLECTION_NOT_FOUND),
    ({"collection": ""}, Reason.FIELD_INVALID),
    ({"ids": ["a", "a"]}, Reason.FIELD_INVALID),
    ({"ids": ["a"]}, Reason.VECTOR_DIMENSION_MISMATCH),
    ({"vectors": b"12345"}, Reason.FIELD_INVALID),
    ({"vectors": b""}, Reason.FIELD_INVALID),
    ({"vectors": bytes(24)}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}"]}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b"[]"]}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b"{"]}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": "\\u0000"}']}, Reason.FIELD_INVALID),
    (
        {"payloads": [b"{}", b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}"]},
        Reason.FIELD_INVALID,
    ),
    ({"payloads": [b"{}", b'{"a": "' + b"x" * 262_144 + b'"}']}, Reason.PAYLOAD_TOO_LARGE),
    # What could be stored, and never be read again by anybody.
    ({"payloads": [b"{}", b'{"a":' * 33 + b"1" + b"}" * 33]}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": 1e400}']}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": -1' + b"0" * 400 + b"}"]}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": 1e200000}']}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": "\xff"}']}, Reason.FIELD_INVALID),
    ({"payloads": [b"{}", b'{"a": "\0"}']}, Reason.FIELD_INVALID),
]


async def test_bad_columns_are_refused_whole(client: Client) -> None:
    await client.create()
    good = {"collection": "things", "ids": ["a", "b"], "vectors": raw([*V, *V]), "payloads": []}
    for change, reason in BAD_COLUMNS:
        async with refused() as error:
            await bulk(client, BulkUpsertPointsRequest(**{**good, **change}))
        assert error().reason is reason, change
    assert await client.count() == 0
    deepest = b'{"a":' * 32 + b"1e100" + b"}" * 32
    await bulk(client, BulkUpsertPointsRequest(**{**good, "payloads": [b"{}", deepest]}))
    assert len(await payloads(client, "a", "b")) == 2


async def test_an_empty_bulk_names_no_collection(client: Client) -> None:
    async with refused() as error:
        await bulk(client)
    assert error().reason is Reason.FIELD_INVALID


async def test_points_expire(client: Client, service_url: str, tenant: str) -> None:
    wanted = Collection(name="things", dimension=3)
    wanted.default_ttl.FromSeconds(3_600)
    await client.collections.CreateCollection(CreateCollectionRequest(collection=wanted))
    lasting = point("lasting", V)
    gone = point("gone", V)
    gone.expire_time.FromDatetime(dt.datetime.now(dt.UTC))
    await client.upsert([lasting, gone])
    [found] = await client.get(["lasting", "gone"])
    assert found.id == "lasting"
    left = found.expire_time.ToDatetime(tzinfo=dt.UTC) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=55) < left <= dt.timedelta(hours=1)
    assert await client.count() == 1
    assert [hit.point.id for hit in await client.search(V)] == ["lasting"]
    assert await client.delete(["gone"]) == 0

    table = await table_of(service_url, tenant)
    async with serving(service_url, sweep_seconds=0.05):
        connection = await asyncpg.connect(service_url)
        try:

            async def swept() -> bool:
                return bool(await connection.fetchval(f"SELECT count(*) FROM {table}") == 1)

            assert await eventually(swept)
        finally:
            await connection.close()
    # Its place can be taken again.
    assert await write(client, point("gone", V), mode=UPSERT_MODE_INSERT_ONLY) == (1, 1, 0)


async def test_a_collection_that_is_held_keeps_no_other_from_being_swept(
    alone: Client, own_url: str, tenant: str
) -> None:
    for name in ("held", "free"):
        await alone.create(name)
        gone = point("gone", V)
        gone.expire_time.FromSeconds(1)
        await alone.upsert([gone], name)
    held, free = await table_of(own_url, tenant, "held"), await table_of(own_url, tenant, "free")
    connection = await asyncpg.connect(own_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE")
            async with serving(own_url, sweep_seconds=0.05, postgres_statement_seconds=0.2):

                async def swept() -> bool:
                    return not await connection.fetchval(f"SELECT count(*) FROM {free}")

                assert await eventually(swept, 30)
    finally:
        await connection.close()
