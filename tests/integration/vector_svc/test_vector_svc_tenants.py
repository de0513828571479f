"""No call of a tenant reads or changes what another one has, and Postgres sees to it."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import grpc.aio
import pytest
from asyncpg.pool import PoolConnectionProxy
from google.protobuf.message import Message
from vector_svc_harness import Client, point, raw, refused, serving

from stepwire.api.vector.v1 import (
    collection_service_pb2,
    index_service_pb2,
    point_service_pb2,
    search_service_pb2,
    snapshot_service_pb2,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    AliasChange,
    ChangeAliasesRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.call import call_context
from stepwire.db import open_pool
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error
from vector_svc.engine.ports import TenantUnknownError
from vector_svc.store.codecs import set_codecs
from vector_svc.store.database import Database

SERVICES = (
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    index_service_pb2.DESCRIPTOR.services_by_name["IndexService"],
    point_service_pb2.DESCRIPTOR.services_by_name["PointService"],
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"],
)
SECRET = "only ann knows"
MINE = {"mine": "yes"}
# Calls that make something of the caller's own under any name.
MAKERS = {"CreateCollection", "ImportCollection"}
LISTS = {"ListCollections", "ListAliases"}
TENANTS = ("ann", "bob", "a'; DROP", "ann ")
VERBS = ("make", "make", "write", "write", "write", "drop", "look")

Call = Callable[[Any], Any]


def calls(client: Client) -> dict[str, tuple[Any, Call]]:
    """Every method of every service: its descriptor and how it is called."""
    stubs = (client.collections, client.indexes, client.points, client.searches, client.snapshots)
    return {
        method.name: (method, getattr(stub, method.name))
        for service, stub in zip(SERVICES, stubs, strict=True)
        for method in service.methods
    }


def filled(descriptor: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """What a request of this type can say, of what is known to be another tenant's."""
    return {field.name: known[field.name] for field in descriptor.fields if field.name in known}


async def answer(method: Any, call: Call, request: Message) -> list[Message]:
    async def sent() -> AsyncIterator[Message]:
        yield request

    made = call(sent() if method.client_streaming else request)
    if method.server_streaming:
        return [part async for part in made]
    return [await made]


async def furnish(client: Client) -> Mapping[str, Any]:
    """Give ann a collection, a point, an alias and a build; return what names them."""
    with call_context(tenant_id="ann"):
        await client.create("secret")
        await client.upsert([point("p", [1, 2, 3], {"text": SECRET})], "secret")
        change = AliasChange(alias="hidden", collection="secret")
        await client.collections.ChangeAliases(ChangeAliasesRequest(changes=[change]))
        build = (await client.indexes.BuildIndex(BuildIndexRequest(collection="secret"))).build
    return {"build_id": build.build_id}


async def test_no_call_reaches_what_another_tenant_has(client: Client) -> None:
    named = await furnish(client)
    with call_context(tenant_id="bob"):
        await client.create("own")
    for target in ("secret", "hidden"):
        known = {
            **named,
            "collection": target,
            "ids": ["p"],
            "field": "text",
            "vector": raw([1, 2, 3]),
            "limit": 10,
            "changes": [{"alias": "mine", "collection": target}],
            "set": MINE,
        }
        for name, (method, call) in calls(client).items():
            if name in MAKERS:
                continue
            parts = filled(method.input_type, known)
            if name == "UpdateCollection":
                parts["collection"] = {"name": target}
            if name == "UpsertPoints":
                parts["points"] = [point("p", [3, 2, 1])]
            if name == "BulkUpsertPoints":
                parts["vectors"] = raw([3, 2, 1])
            request = method.input_type._concrete_class(**parts)
            with call_context(tenant_id="bob"):
                try:
                    answers = await answer(method, call, request)
                except grpc.aio.AioRpcError as refusal:
                    error = from_rpc_error(refusal)
                    assert error is not None, name
                    assert error.reason in {
                        Reason.COLLECTION_NOT_FOUND,
                        Reason.INDEX_BUILD_NOT_FOUND,
                        Reason.FIELD_INVALID,
                    }, (name, error)
                    continue
            for got in answers:
                assert name in LISTS or name.startswith("Batch"), (name, got)
                assert SECRET not in str(got)
                assert "secret" not in str(got)
    with call_context(tenant_id="ann"):
        [found] = await client.get(["p"], "secret", include_vectors=True)
        assert (found.vector, found.payload["text"]) == (raw([1, 2, 3]), SECRET)
        assert await client.count("secret") == 1


def histories(count: int) -> list[list[tuple[str, str, str]]]:
    """What tenants do one after the other, under the same names, by a seed each."""
    made = []
    for seed in range(count):
        draw = random.Random(seed)
        made.append(
            [
                (draw.choice(TENANTS), draw.choice(VERBS), draw.choice("abc"))
                for _ in range(draw.randint(5, 25))
            ]
        )
    return made


@pytest.mark.parametrize("history", histories(3))
async def test_tenants_live_as_if_alone(
    client: Client, history: list[tuple[str, str, str]]
) -> None:
    """Whatever tenants do under the same names, each finds what it left, and no more."""
    expected: dict[str, dict[str, set[str]]] = {tenant: {} for tenant in TENANTS}
    for number, (tenant, verb, name) in enumerate(history):
        own = expected[tenant]
        with call_context(tenant_id=tenant):
            if verb == "make":
                await client.create(name)
                own.setdefault(name, set())
            elif name not in own:
                async with refused() as error:
                    await client.get(["x"], name)
                assert error().reason is Reason.COLLECTION_NOT_FOUND
            elif verb == "write":
                await client.upsert([point(f"{tenant}-{number}", [1, 2, 3])], name)
                own[name].add(f"{tenant}-{number}")
            elif verb == "drop":
                await client.drop(name)
                del own[name]
    for tenant, own in expected.items():
        with call_context(tenant_id=tenant):
            listed = await client.collections.ListCollections(ListCollectionsRequest())
            assert {found.name: found.point_count for found in listed.collections} == {
                name: len(ids) for name, ids in own.items()
            }
            for name, ids in own.items():
                found = {hit.point.id for hit in await client.search([1, 2, 3], name, limit=50)}
                assert found == ids


async def lent(
    url: str, tenant_id: str, work: Callable[[PoolConnectionProxy], Awaitable[Any]]
) -> Any:
    async with open_pool(url, application_name="test", init=set_codecs) as pool:
        database = Database(pool, acquire_seconds=5, statement_seconds=5)
        try:
            async with database.connection("test", tenant_id) as connection:
                return await work(connection)
        finally:
            await database.close()


async def _execute(statement: str, connection: PoolConnectionProxy) -> None:
    await connection.execute(statement)


async def test_postgres_itself_refuses_another_tenants_rows(
    client: Client, database_url: str
) -> None:
    await furnish(client)
    with call_context(tenant_id="bob"):
        await client.create("own")

    async def points(connection: PoolConnectionProxy) -> Any:
        return await connection.fetch("SELECT id FROM vector.points_1")

    assert [row["id"] for row in await lent(database_url, "ann", points)] == ["p"]
    for statement in (
        "SELECT * FROM vector.points_1",
        "INSERT INTO vector.points_1 (id, embedding, payload) VALUES ('x', '[1,2,3]', '{}')",
        "UPDATE vector.points_1 SET payload = '{}'",
        "DELETE FROM vector.points_1",
        "DROP TABLE vector.points_1",
        "UPDATE vector.collections SET tenant_id = 'bob'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await lent(
                database_url, "bob", lambda connection, sql=statement: connection.execute(sql)
            )
    for table in ("collections", "names", "index_builds"):

        async def tenants(connection: PoolConnectionProxy, table: str = table) -> Any:
            return await connection.fetch(f"SELECT tenant_id FROM vector.{table}")

        seen = {row["tenant_id"] for row in await lent(database_url, "bob", tenants)}
        assert seen <= {"bob"}
        assert await lent(database_url, "ann", tenants) != []


async def test_a_tenant_that_never_made_anything_has_no_role(database_url: str) -> None:
    async with serving(database_url):
        pass

    async def nothing(connection: PoolConnectionProxy) -> None:
        await connection.execute("SELECT 1")

    with pytest.raises(TenantUnknownError):
        await lent(database_url, "never-seen", nothing)
