"""Collections of every kind, their promoted fields, and what can change of them."""

import asyncio
from itertools import product
from typing import Any

import asyncpg
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from vector_svc_harness import Client, point, raw, refused, table_of

from stepwire.api.vector.v1.collection_pb2 import (
    ELEMENT_TYPE_BINARY,
    ELEMENT_TYPE_FLOAT16,
    ELEMENT_TYPE_FLOAT32,
    FIELD_TYPE_BOOL,
    FIELD_TYPE_FLOAT,
    FIELD_TYPE_INT,
    FIELD_TYPE_TEXT,
    FIELD_TYPE_TIMESTAMP,
    INDEX_KIND_IVFFLAT,
    INDEX_KIND_NONE,
    METRIC_COSINE,
    METRIC_DOT,
    METRIC_EUCLIDEAN,
    METRIC_HAMMING,
    METRIC_JACCARD,
    METRIC_MANHATTAN,
    QUANTIZATION_HALF,
    Collection,
    IndexOptions,
    PromotedField,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    GetCollectionRequest,
    GetCollectionStatsRequest,
    UpdateCollectionRequest,
)
from stepwire.errors import Reason

FIELDS = {
    "color": FIELD_TYPE_TEXT,
    "size": FIELD_TYPE_INT,
    "weight": FIELD_TYPE_FLOAT,
    "sold": FIELD_TYPE_BOOL,
    "made": FIELD_TYPE_TIMESTAMP,
}
GOOD = {"color": "red", "size": 3, "weight": 1.5, "sold": True, "made": "2026-01-31T12:00:00+01:00"}


async def make(client: Client, **config: Any) -> Collection:
    wanted = Collection(**{"name": "things", "dimension": 8, **config})
    request = CreateCollectionRequest(collection=wanted)
    return (await client.collections.CreateCollection(request)).collection


async def update(client: Client, *paths: str, etag: str = "", **config: Any) -> Collection:
    request = UpdateCollectionRequest(
        collection=Collection(name="things", **config),
        update_mask=FieldMask(paths=paths),
        etag=etag,
    )
    return (await client.collections.UpdateCollection(request)).collection


def promoted(**fields: Any) -> list[PromotedField]:
    return [PromotedField(name=name, type=type_) for name, type_ in fields.items()]


@pytest.mark.parametrize(
    ("element", "metric"),
    [
        *product(
            (ELEMENT_TYPE_FLOAT32, ELEMENT_TYPE_FLOAT16),
            (METRIC_COSINE, METRIC_DOT, METRIC_EUCLIDEAN, METRIC_MANHATTAN),
        ),
        (ELEMENT_TYPE_BINARY, METRIC_HAMMING),
        (ELEMENT_TYPE_BINARY, METRIC_JACCARD),
    ],
)
async def test_every_kind_is_written_indexed_and_read(
    client: Client, element: Any, metric: Any
) -> None:
    await make(client, element_type=element, metric=metric, index=IndexOptions(min_points=1))
    if element == ELEMENT_TYPE_BINARY:
        near, far = bytes([0b1010_1111]), bytes([0b0001_0000])
    else:
        near, far = raw([1, 0.5, 0, 0, 0, 0, 0, 2]), raw([-1, 0, 3, 0, 0, 9, 0, -2])
    await client.upsert([point("near", near), point("far", far)])
    [found] = await client.get(["near"], include_vectors=True)
    assert found.vector == near
    assert [hit.point.id for hit in await client.search(near)] == ["near", "far"]


async def test_the_form_of_a_vector_is_told_by_its_length(client: Client) -> None:
    await make(client, dimension=4)
    values = [0.5, -1.0, 2.0, 0.25]
    halved = point("half", np.asarray(values, "<f2").tobytes())
    listed = point("list", b"")
    listed.values.extend(values)
    await client.upsert([point("whole", values), halved, listed])
    found = await client.get(["whole", "half", "list"], include_vectors=True)
    assert [p.vector for p in found] == [raw(values)] * 3


async def test_what_does_not_fit_the_element_type_is_refused(client: Client) -> None:
    await make(client, dimension=4, element_type=ELEMENT_TYPE_FLOAT16)
    for vector in ([70_000, 0, 0, 0], [1e-9, 0, 0, 0], [float("nan"), 0, 0, 0]):
        async with refused() as error:
            await client.upsert([point("a", vector)])
        assert error().reason is Reason.FIELD_INVALID
        assert error().faults[0].field == "points[0].vector"
    async with refused() as error:
        await client.upsert([point("a", [1, 2, 3])])
    assert error().reason in {Reason.FIELD_INVALID, Reason.VECTOR_DIMENSION_MISMATCH}
    # What the index could not hold, the points must not either, or it could never be built.
    shortened = IndexOptions(quantization=QUANTIZATION_HALF, min_points=1)
    await client.create("short", 4, index=shortened)
    for attempt in (
        client.upsert([point("a", [70_000, 0, 0, 0])], "short"),
        client.search([70_000, 0, 0, 0], "short"),
    ):
        async with refused() as error:
            await attempt
        assert error().reason is Reason.FIELD_INVALID
        assert "beyond float16" in error().message
    await client.upsert([point("a", [1 / 3, 0, 0, 0])], "short")
    assert (await client.get(["a"], "short", include_vectors=True))[0].vector == raw(
        [1 / 3, 0, 0, 0]
    )


async def test_promoted_fields_are_kept_in_step(
    client: Client, service_url: str, tenant: str
) -> None:
    made = await make(client, fields=promoted(**FIELDS), dimension=3)
    assert {field.name: field.type for field in made.fields} == FIELDS
    await client.upsert(
        [point("a", [1, 2, 3], GOOD), point("b", [1, 2, 3]), point("c", [1, 2, 3], {"size": None})]
    )
    table = await table_of(service_url, tenant)
    connection = await asyncpg.connect(service_url)
    try:
        columns = ", ".join(f"f_{name}" for name in FIELDS)
        row = await connection.fetchrow(f"SELECT {columns} FROM {table} WHERE id = 'a'")
    finally:
        await connection.close()
    assert row is not None
    assert (*row[:4], row[4].isoformat()) == ("red", 3, 1.5, True, "2026-01-31T11:00:00+00:00")


async def test_values_of_another_type_are_refused(client: Client) -> None:
    await make(client, fields=promoted(**FIELDS), dimension=3)
    wrong: list[tuple[str, Any]] = [
        ("color", 1),
        ("color", "x" * 2_001),
        ("size", 1.5),
        ("size", 2**64),
        ("size", "3"),
        ("weight", "1"),
        ("sold", 0),
        ("made", "2026-01-31"),
        ("made", "2026-02-31T12:00:00Z"),
        ("made", 5),
    ]
    for field, value in wrong:
        async with refused() as error:
            await client.upsert([point("a", [1, 2, 3], {field: value})])
        assert error().reason is Reason.FIELD_INVALID
        assert error().faults[0].field == f"payload.{field}"
    assert await client.count() == 0


async def test_fields_come_and_go(client: Client) -> None:
    await make(client, dimension=3)
    await client.upsert([point("a", [1, 2, 3], {"size": 3, "color": "red"})])
    changed = await update(client, "fields", fields=promoted(size=FIELD_TYPE_INT))
    assert [field.name for field in changed.fields] == ["size"]
    async with refused() as error:
        await update(client, "fields", fields=promoted(color=FIELD_TYPE_INT))
    assert error().reason is Reason.FIELD_INVALID
    async with refused() as error:
        await client.upsert([point("a", [1, 2, 3], {"size": "large"})])
    assert error().reason is Reason.FIELD_INVALID
    await update(client, "fields", fields=promoted(color=FIELD_TYPE_TEXT))
    await client.upsert([point("a", [1, 2, 3], {"size": "large"})])


async def test_an_update_between_is_noticed(client: Client) -> None:
    made = await make(client)
    changed = await update(client, "index", index=IndexOptions(m=8), etag=made.etag)
    assert changed.index.m == 8
    assert changed.etag != made.etag
    async with refused() as error:
        await update(client, "index", index=IndexOptions(m=9), etag=made.etag)
    assert error().reason is Reason.COLLECTION_CHANGED
    assert error().metadata == {"collection": "things", "etag": changed.etag}
    async with refused() as error:
        await update(client, "dimension", dimension=4)
    assert error().faults[0].field == "update_mask"
    async with refused() as error:
        await update(client, "index", index=IndexOptions(kind=INDEX_KIND_IVFFLAT, quantization=9))
    assert error().reason is Reason.FIELD_INVALID


async def test_stats_tell_what_a_collection_takes(client: Client) -> None:
    await make(client, index=IndexOptions(min_points=1))
    points = [point(str(n), np.random.default_rng(n).standard_normal(8)) for n in range(100)]
    points[0].expire_time.FromSeconds(4_000_000_000)
    await client.upsert(points)
    request = GetCollectionStatsRequest(collection="things")
    stats = (await client.collections.GetCollectionStats(request)).stats
    assert (stats.point_count, stats.expiring_points) == (100, 1)
    assert min(stats.table_bytes, stats.vector_index_bytes, stats.other_index_bytes) > 0


async def test_a_language_that_postgres_does_not_know_is_refused(client: Client) -> None:
    async with refused() as error:
        await make(client, text={"field": "text", "language": "klingon"})
    assert error().faults[0].field == "collection.text.language"
    async with refused() as error:
        await client.collections.GetCollection(GetCollectionRequest(collection="things"))
    assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_updates_at_once_follow_one_another(client: Client) -> None:
    made = await make(client, index=IndexOptions(kind=INDEX_KIND_NONE))
    await asyncio.gather(*(update(client, "index", index=IndexOptions(m=m)) for m in (8, 9, 10)))
    found = await client.collections.GetCollection(GetCollectionRequest(collection="things"))
    assert found.collection.etag == made.etag.removesuffix("1") + "4"
