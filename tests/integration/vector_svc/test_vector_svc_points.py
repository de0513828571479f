"""Points: all or none, replaced by id, read back as they were written."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import numpy as np
import pytest
from vector_svc_harness import Client, point, raw, refused, table_of

from stepwire.api.vector.v1.collection_pb2 import (
    FIELD_TYPE_BOOL,
    FIELD_TYPE_INT,
    FIELD_TYPE_TEXT,
    FIELD_TYPE_TIMESTAMP,
    Collection,
    PromotedField,
)
from stepwire.api.vector.v1.collection_service_pb2 import UpdateCollectionRequest
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.errors import Reason

NAN = float("nan")
INF = float("inf")


async def test_points_are_read_back_as_written(client: Client) -> None:
    await client.create()
    payload = {"text": 'ä"\\', "n": 1, "x": 0.5, "list": [1, {"deep": None}], "yes": True}
    written = [point("a", [0.1, -2.5, 3e7], payload), point("b'\"; DROP", [1, 2, 3], {})]
    assert await client.upsert(written) == 2
    assert await client.get(["b'\"; DROP", "missing", "a"], include_vectors=True) == [
        written[1],
        written[0],
    ]
    [without] = await client.get(["a"])
    assert without.vector == b""
    assert without.payload == written[0].payload


async def test_ids_asked_for_twice_are_answered_twice(client: Client) -> None:
    await client.create()
    await client.upsert([point("a", [1, 2, 3]), point("b", [1, 2, 3])])
    assert [found.id for found in await client.get(["b", "a", "b"])] == ["b", "a", "b"]


async def test_a_point_is_replaced_whole(client: Client) -> None:
    await client.create()
    await client.upsert([point("a", [1, 0, 0], {"old": 1})])
    await client.upsert([point("a", [0, 1, 0], {"new": 2})])
    [found] = await client.get(["a"], include_vectors=True)
    assert found == point("a", [0, 1, 0], {"new": 2})
    [nearest] = await client.search([0, 1, 0])
    assert nearest.score == pytest.approx(1)
    assert await client.count() == 1


async def test_a_repeated_upsert_writes_nothing(
    client: Client, service_url: str, tenant: str
) -> None:
    await client.create()
    table = await table_of(service_url, tenant)
    connection = await asyncpg.connect(service_url)
    try:
        version = f"SELECT xmin::text FROM {table} WHERE id = 'a'"
        assert await client.upsert([point("a", [1, 2, 3], {"n": 1})]) == 1
        first = await connection.fetchval(version)
        assert await client.upsert([point("a", [1, 2, 3], {"n": 1})]) == 1
        # ON CONFLICT locks the row, which does not make a new version of it.
        assert await connection.fetchval(version) == first
        await client.upsert([point("a", [1, 2, 3], {"n": 2})])
        assert await connection.fetchval(version) != first
    finally:
        await connection.close()


@pytest.mark.parametrize("count", [255, 256, 2_000])
async def test_large_batches_are_written_whole(client: Client, count: int) -> None:
    await client.create()
    ids = [f"p{n}" for n in range(count)]
    random.Random(1).shuffle(ids)
    vectors = np.random.default_rng(1).standard_normal((count, 3))
    written = [point(i, v, {"id": i}) for i, v in zip(ids, vectors, strict=True)]
    assert await client.upsert(written) == count
    assert await client.count() == count
    assert await client.get(ids, include_vectors=True) == written


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (point("x", [NAN, 0, 1]), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", [INF, 0, 1]), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", [0, 0, 0]), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", [3e38, 3e38, 0]), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", b""), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", b"12345"), Reason.FIELD_INVALID, "points[1].vector"),
        (point("x", [1, 2]), Reason.VECTOR_DIMENSION_MISMATCH, "points[1].vector"),
        (point("", [1, 2, 3]), Reason.FIELD_INVALID, "points[1].id"),
        (point("x" * 257, [1, 2, 3]), Reason.FIELD_INVALID, "points[1].id"),
        (point("x\0", [1, 2, 3]), Reason.FIELD_INVALID, "points[1].id"),
        (point("good", [1, 2, 3]), Reason.FIELD_INVALID, "points[1].id"),
        (point("x", [1, 2, 3], {"a": NAN}), Reason.FIELD_INVALID, "points[1].payload"),
        (point("x", [1, 2, 3], {"a": "\0"}), Reason.FIELD_INVALID, "points[1].payload"),
        (
            point("x", [1, 2, 3], {"a": "x" * 262_144}),
            Reason.PAYLOAD_TOO_LARGE,
            "points[1].payload",
        ),
    ],
)
async def test_one_bad_point_refuses_all(
    client: Client, bad: Point, reason: Reason, field: str
) -> None:
    await client.create()
    async with refused() as error:
        await client.upsert([point("good", [1, 2, 3]), bad])
    assert error().reason is reason
    assert error().metadata["field"] == field
    assert await client.count() == 0


async def test_a_payload_may_fill_its_limit(client: Client) -> None:
    await client.create()
    text = "x" * (256 * 1024 - len(b'{"a":""}'))
    await client.upsert([point("a", [1, 2, 3], {"a": text})])
    [found] = await client.get(["a"])
    assert found.payload["a"] == text


async def test_the_number_of_points_is_bounded(client: Client) -> None:
    await client.create()
    for count in (0, 10_001):
        async with refused() as error:
            await client.upsert([point(str(n), [1, 2, 3]) for n in range(count)])
        assert error().faults[0].field == "points"
        async with refused() as error:
            await client.get([str(n) for n in range(count)])
        assert error().faults[0].field == "ids"
        async with refused() as error:
            await client.delete([str(n) for n in range(count)])
        assert error().faults[0].field == "ids"


async def test_deleted_points_are_gone(client: Client) -> None:
    await client.create()
    await client.upsert([point(str(n), [1, n, 2]) for n in range(5)])
    assert await client.delete(["1", "3", "3", "missing"]) == 2
    assert await client.delete(["1"]) == 0
    assert [found.point.id for found in await client.search([1, 9, 2])] == ["4", "2", "0"]


async def test_verbs_want_a_collection(client: Client) -> None:
    calls: list[Callable[[str], Awaitable[object]]] = [
        lambda name: client.upsert([point("a", [1, 2, 3])], name),
        lambda name: client.search([1, 2, 3], name),
        lambda name: client.get(["a"], name),
        lambda name: client.delete(["a"], name),
        client.count,
        client.drop,
    ]
    for call in calls:
        async with refused() as error:
            await call("nowhere")
        assert error().reason is Reason.COLLECTION_NOT_FOUND
        async with refused() as error:
            await call("")
        assert error().faults[0].field == "collection"


async def test_writers_of_the_same_points_do_not_block_each_other(client: Client) -> None:
    await client.create()
    ids = [f"p{n}" for n in range(40)]

    async def write(writer: int) -> None:
        order = random.Random(writer)
        for turn in range(6):
            order.shuffle(ids)
            chosen = ids[:30].copy()
            if writer % 4 == 3:
                await client.delete(chosen)
            else:
                payload = {"writer": writer, "turn": turn}
                await client.upsert([point(i, [1 + writer, turn, 1], payload) for i in chosen])

    await asyncio.gather(*(write(writer) for writer in range(8)))
    for found in await client.get(ids, include_vectors=True):
        writer, turn = (found.payload.fields[key].number_value for key in ("writer", "turn"))
        assert found.vector == raw([1 + writer, turn, 1]), "a point mixes two writes"


async def test_an_upsert_is_seen_whole_or_not_at_all(client: Client) -> None:
    await client.create()
    ids = [f"p{n}" for n in range(60)]
    await client.upsert([point(i, [1, 1, 1], {"turn": 0}) for i in ids])

    async def write() -> None:
        for turn in range(1, 15):
            await client.upsert([point(i, [1, turn, 1], {"turn": turn}) for i in ids])

    writing = asyncio.create_task(write())
    while not writing.done():
        turns = {found.payload["turn"] for found in await client.get(ids)}
        assert len(turns) == 1
    await writing


@pytest.mark.parametrize(
    ("type_", "longest", "beyond", "rule"),
    [
        (FIELD_TYPE_TEXT, "é" * 1_000, "é" * 1_001, "at most 2,000 bytes"),
        (FIELD_TYPE_INT, 2**53, 0.5, "a whole number"),
        (FIELD_TYPE_BOOL, True, "true", "true or false"),
        (FIELD_TYPE_TIMESTAMP, "2026-01-31T12:00:00Z", "2026-01-31", "with an offset"),
    ],
)
async def test_a_value_that_its_field_cannot_hold_is_told_what_it_must_be(
    client: Client, type_: Any, longest: Any, beyond: Any, rule: str
) -> None:
    """With the longest id, as both are in indexes."""
    longest_id = "\U0001f6a4" * 256
    await client.create(fields=[PromotedField(name="f", type=type_)])
    assert await client.upsert([point(longest_id, [1, 2, 3], {"f": longest})]) == 1
    async with refused() as error:
        await client.upsert([point(longest_id, [1, 2, 3], {"f": beyond})])
    assert error().metadata == {"field": "payload.f"}
    assert rule in error().message
    await client.create("later")
    await client.upsert([point("a", [1, 2, 3], {"f": beyond})], "later")
    wanted = Collection(name="later", fields=[PromotedField(name="f", type=type_)])
    async with refused() as error:
        await client.collections.UpdateCollection(
            UpdateCollectionRequest(collection=wanted, update_mask={"paths": ["fields"]})
        )
    assert error().metadata == {"field": "collection.fields"}
    assert rule in error().message
