"""Collections: made once, listed in pages, dropped with their points, apart by tenant."""

import asyncio
from typing import cast

import asyncpg
import grpc.aio
import pytest
from google.protobuf.struct_pb2 import Struct
from vector_svc_harness import Client, containing, point, refused, serving, table_of, tables_of

from stepwire.api.vector.v1.collection_pb2 import (
    FIELD_TYPE_INT,
    METRIC_COSINE,
    METRIC_DOT,
    METRIC_EUCLIDEAN,
    METRIC_UNSPECIFIED,
    Collection,
    Metric,
    PromotedField,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.filter_pb2 import Condition, FieldCondition, Filter
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.errors import Reason
from stepwire.rpc import call_context
from stepwire.rpc.status import from_rpc_error

UNKNOWN = cast("Metric.ValueType", 9)


async def names(client: Client, page_size: int = 0) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        request = ListCollectionsRequest(page_size=page_size, page_token=token)
        response = await client.collections.ListCollections(request)
        assert not page_size or len(response.collections) <= page_size
        found += [collection.name for collection in response.collections]
        if not (token := response.next_page_token):
            return found


async def test_a_collection_is_made_once(client: Client, service_url: str, tenant: str) -> None:
    made = await client.create("a", 3, METRIC_UNSPECIFIED)
    assert (made.name, made.dimension, made.metric, made.point_count) == ("a", 3, METRIC_COSINE, 0)
    await client.upsert([point("p", [1, 2, 3])], "a")
    again = await client.create("a", 3, METRIC_COSINE)
    assert again.point_count == 1
    assert len(await tables_of(service_url, tenant)) == 1


@pytest.mark.parametrize(("dimension", "metric"), [(4, METRIC_COSINE), (3, METRIC_DOT)])
async def test_another_configuration_is_refused(
    client: Client, dimension: int, metric: "Metric.ValueType"
) -> None:
    await client.create("a", 3, METRIC_COSINE)
    async with refused() as error:
        await client.create("a", dimension, metric)
    assert error().reason is Reason.COLLECTION_EXISTS
    assert error().metadata == {"collection": "a"}


async def test_of_many_makers_at_once_one_makes_it(
    client: Client, service_url: str, tenant: str
) -> None:
    made = await asyncio.gather(*(client.create("a") for _ in range(12)))
    assert made == [made[0]] * 12
    assert len(await tables_of(service_url, tenant)) == 1


async def test_of_many_makers_of_different_ones_one_wins(
    client: Client, service_url: str, tenant: str
) -> None:
    outcomes = await asyncio.gather(
        *(client.create("a", 1 + n) for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Collection) for outcome in outcomes) == 1
    assert len(await tables_of(service_url, tenant)) == 1


@pytest.mark.parametrize(
    ("collection", "field"),
    [
        (None, "collection.name"),
        (Collection(name="A", dimension=3), "collection.name"),
        (Collection(name="a"), "collection.dimension"),
        (Collection(name="a", dimension=2_001), "collection.dimension"),
        (Collection(name="a", dimension=3, metric=UNKNOWN), "collection.metric"),
    ],
)
async def test_bad_configurations_are_refused(
    client: Client, collection: Collection | None, field: str
) -> None:
    async with refused() as error:
        await client.collections.CreateCollection(CreateCollectionRequest(collection=collection))
    assert error().reason is Reason.FIELD_INVALID
    assert [fault.field for fault in error().faults] == [field]


async def test_the_largest_dimension_is_indexed_and_searched(client: Client) -> None:
    await client.create("a", 2_000)
    await client.upsert([point(str(n), [1.0] * 1_999 + [n]) for n in range(3)], "a")
    [nearest] = await client.search([1.0] * 1_999 + [2.0], "a", limit=1)
    assert nearest.point.id == "2"


async def test_a_deleted_collection_is_gone_with_its_points(
    client: Client, service_url: str, tenant: str
) -> None:
    await client.create()
    await client.upsert([point("p", [1, 2, 3])])
    await client.drop()
    assert await tables_of(service_url, tenant) == []
    async with refused() as error:
        await client.search([1, 2, 3])
    assert error().reason is Reason.COLLECTION_NOT_FOUND
    assert error().metadata == {"collection": "things"}
    async with refused() as error:
        await client.drop()
    assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_a_name_can_be_used_again(client: Client) -> None:
    await client.create("things", 3, METRIC_COSINE)
    await client.upsert([point("p", [1, 2, 3])])
    await client.drop()
    made = await client.create("things", 2, METRIC_DOT)
    assert made.point_count == 0
    await client.upsert([point("q", [1, 2])])
    assert [found.score for found in await client.search([3, 4])] == [11.0]


async def test_pages_hold_every_collection_once_by_name(client: Client) -> None:
    made = [f"c{n:02d}-{'x' * n}" for n in range(7)]
    await asyncio.gather(*(client.create(name) for name in reversed(made)))
    assert await names(client) == made
    for size in (1, 3, 7, 8):
        assert await names(client, size) == made


async def test_lists_tell_the_number_of_points(client: Client) -> None:
    await client.create("a")
    await client.create("b")
    await client.upsert([point(str(n), [1, 2, 3]) for n in range(4)], "b")
    response = await client.collections.ListCollections(ListCollectionsRequest())
    assert [(c.name, c.point_count) for c in response.collections] == [("a", 0), ("b", 4)]


async def test_a_list_can_be_empty(client: Client) -> None:
    assert await names(client) == []


async def test_bad_pages_are_refused(client: Client) -> None:
    async with refused() as error:
        await client.collections.ListCollections(ListCollectionsRequest(page_token="x"))
    assert error().reason is Reason.PAGE_TOKEN_INVALID
    async with refused() as error:
        await client.collections.ListCollections(ListCollectionsRequest(page_size=-1))
    assert error().reason is Reason.FIELD_INVALID


async def test_tenants_see_only_their_own(client: Client, tenant: str) -> None:
    for name, vector in (("ann", [1, 0, 0]), ("bob", [0, 1, 0])):
        with call_context(tenant_id=f"{tenant}-{name}"):
            await client.create()
            await client.upsert([point(name, vector)])
    with call_context(tenant_id=f"{tenant}-ann"):
        assert [found.point.id for found in await client.search([1, 1, 1])] == ["ann"]
        assert await client.get(["ann", "bob"]) == [Point(id="ann", payload=Struct())]
        assert await client.delete(["bob"]) == 0
        await client.drop()
    with call_context(tenant_id=f"{tenant}-bob"):
        assert await client.count() == 1
    with call_context(tenant_id=f"{tenant}-eve"):
        assert await names(client) == []
        async with refused() as error:
            await client.get(["bob"])
        assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_two_instances_start_at_once_and_share(database_url: str) -> None:
    async def make_one(name: str) -> list[str]:
        async with serving(database_url) as client:
            await client.create(name)
            return await names(client)

    listed = await asyncio.gather(make_one("a"), make_one("b"))
    assert ["a", "b"] in listed


async def test_what_another_instance_changed_is_noticed(client: Client, service_url: str) -> None:
    async with serving(service_url) as other:
        await client.create("things", 3)
        await other.upsert([point("old", [1, 2, 3])])
        await client.drop()
        await client.create("things", 3, METRIC_EUCLIDEAN)
        assert await other.upsert([point("new", [1, 2, 3])]) == 1
        assert [found.score for found in await other.search([1, 2, 5])] == [-2.0]

        await client.drop()
        await client.create("things", 2)
        assert await other.upsert([point("flat", [1, 2])]) == 1
        assert [found.id for found in await client.get(["flat", "new"])] == ["flat"]

        await client.drop()
        async with refused() as error:
            await other.search([1, 2])
        assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_deleting_while_others_read_and_write(client: Client) -> None:
    await client.create()
    await client.upsert([point(str(n), [1, n, 2]) for n in range(50)])

    async def use(n: int) -> Reason:
        while True:
            try:
                await client.search([1, 2, n], filter=containing(n=n))
                await client.upsert([point(f"w{n}", [1, 2, n], {"n": n})])
            except grpc.aio.AioRpcError as refusal:
                error = from_rpc_error(refusal)
                assert error is not None
                return error.reason

    uses = [asyncio.create_task(use(n)) for n in range(8)]
    await client.search([1, 2, 3])
    await client.drop()
    assert set(await asyncio.gather(*uses)) == {Reason.COLLECTION_NOT_FOUND}


async def test_what_is_known_of_a_collection_may_be_old(
    alone: Client, own_url: str, tenant: str
) -> None:
    """As in the moment before another instance's change is told: here nobody tells of it."""
    fields = [PromotedField(name="n", type=FIELD_TYPE_INT)]
    await alone.create(fields=fields)
    await alone.upsert([point("a", [1, 2, 3], {"n": 1})])
    asked = Filter(must=[Condition(field=FieldCondition(path="n"))])
    asked.must[0].field.equals.number_value = 1
    assert len(await alone.search([1, 2, 3], filter=asked)) == 1
    table = await table_of(own_url, tenant)
    connection = await asyncpg.connect(own_url)
    try:
        await connection.execute(
            f"SET session_replication_role = replica; ALTER TABLE {table} DROP COLUMN f_n;"
            f"UPDATE vector.collections SET fields = '{{}}' WHERE tenant_id = '{tenant}'"
        )
        assert len(await alone.search([1, 2, 3], filter=asked)) == 1
        await connection.execute("DELETE FROM vector.collections WHERE tenant_id = $1", tenant)
    finally:
        await connection.close()
    async with refused() as error:
        await alone.indexes.BuildIndex(BuildIndexRequest(collection="things"))
    assert error().reason is Reason.COLLECTION_NOT_FOUND
