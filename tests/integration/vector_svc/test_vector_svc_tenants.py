"""No call of a tenant reads or changes what another one has, and Postgres sees to it."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc.aio
import pytest
from asyncpg.pool import PoolConnectionProxy
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from vector_svc_harness import Client, point, raw, refused, table_of

from stepwire.api.vector.v1.collection_service_pb2 import (
    AliasChange,
    ChangeAliasesRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.memory_pb2 import Memory
from stepwire.api.vector.v1.memory_service_pb2 import RememberRequest
from stepwire.api.vector.v1.search_service_pb2 import (
    MeasureRecallRequest,
    StreamSearchPointsResponse,
)
from stepwire.api.vector.v1.snapshot_service_pb2 import ExportCollectionRequest
from stepwire.call import call_context
from stepwire.db import open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_proto, from_rpc_error
from stepwire.testing.poll import eventually
from vector_svc.engine.ports import TenantUnknownError
from vector_svc.store.codecs import set_codecs
from vector_svc.store.database import Database

SECRET = "only ann knows"
V = [1.0, 2.0, 3.0]
# Calls that make something of the caller's own, under whatever name.
MAKERS = {"CreateCollection", "ImportCollection", "Remember"}
# Calls after which others of the same request are in vain.
LAST = ("DeletePoints", "Forget", "DeleteCollection")
TENANTS = ("ann", "bob", "a'; DROP", "ann ")
VERBS = ("make", "make", "write", "write", "write", "drop", "look")


def methods_of(client: Client) -> list[MethodDescriptor]:
    """Every method that the service serves, whoever added it; those that end things last."""
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(name) for name in client.services]
    methods = [method for service in services for method in service.methods]
    return sorted(methods, key=lambda each: LAST.index(each.name) if each.name in LAST else -1)


@dataclass(frozen=True)
class Knowledge:
    """What another tenant could know to name in its requests.

    Attributes:
        fields: Values by the names of fields.
        snapshot: The bytes of the collection.
    """

    fields: Mapping[str, Any]
    snapshot: bytes

    def request(self, method: MethodDescriptor, target: str) -> Message:
        """The request for the collection `target` that says all that is known."""
        known = {**self.fields, "collection": target, **self._special(method, target)}
        wanted: Descriptor = method.input_type
        parts = {field.name: known[field.name] for field in wanted.fields if field.name in known}
        return GetMessageClass(wanted)(**parts)

    def _special(self, method: MethodDescriptor, target: str) -> Mapping[str, Any]:
        if method.containing_service.name == "MemoryService":
            return {"collection": "diary"}
        return {
            "CreateCollection": {
                "collection": {"name": target, "dimension": 3, "query_samples": 10}
            },
            "UpdateCollection": {"collection": {"name": target}},
            "ImportCollection": {"collection": f"{target}-copy", "data": self.snapshot},
            "UpsertPoints": {"points": [point("p", [3, 2, 1])]},
            "BulkUpsertPoints": {"vectors": raw([3, 2, 1])},
            "ChangeAliases": {"changes": [{"alias": "mine", "collection": target}]},
            "BatchSearchPoints": {"searches": [{"vector": raw(V)}]},
            "StreamSearchPoints": {"search": {"collection": target, "vector": raw(V)}},
            "SearchGroups": {"search": {"vector": raw(V)}, "group_by": "text"},
        }.get(method.name, {})


async def answers(client: Client, method: MethodDescriptor, request: Message) -> list[Message]:
    """Make a call of any method; return what comes of it.

    Raises:
        StepwireError: What it is refused with, or a message of a stream is.
    """

    async def sent() -> AsyncIterator[Message]:
        yield request

    ways = ("unary", "stream")
    shape = f"{ways[method.client_streaming]}_{ways[method.server_streaming]}"
    call = getattr(client.channel, shape)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    made = call(sent() if method.client_streaming else request)
    try:
        if not method.server_streaming:
            return [await made]
        parts = [part async for part in made]
    except grpc.aio.AioRpcError as refusal:
        error = from_rpc_error(refusal)
        assert error is not None, method.full_name
        raise error from None
    for part in parts:
        if isinstance(part, StreamSearchPointsResponse) and part.HasField("error"):
            error = from_proto(part.error)
            assert error is not None
            raise error
    return parts


async def export(client: Client, name: str) -> bytes:
    stream = client.snapshots.ExportCollection(ExportCollectionRequest(collection=name))
    return b"".join([part.data async for part in stream])


async def furnish(client: Client, ann: str) -> Knowledge:
    """Give ann a collection, a point, an alias, a build and a memory; return what names them."""
    with call_context(tenant_id=ann):
        await client.create("secret", query_samples=10)
        await client.upsert([point("p", V, {"text": SECRET})], "secret")
        change = AliasChange(alias="hidden", collection="secret")
        await client.collections.ChangeAliases(ChangeAliasesRequest(changes=[change]))
        build = (await client.indexes.BuildIndex(BuildIndexRequest(collection="secret"))).build
        memory = Memory(id="p", text=SECRET)
        await client.memories.Remember(
            RememberRequest(space="secret", memories=[memory], collection="diary")
        )
        await client.search(V, "secret")
        await client.searches.MeasureRecall(MeasureRecallRequest(collection="secret"))
        snapshot = await export(client, "secret")
    fields = {
        "build_id": build.build_id,
        "ids": ["p"],
        "field": "text",
        "vector": raw(V),
        "limit": 10,
        "set": {"mine": "yes"},
        "space": "secret",
        "query": SECRET,
        "memories": [Memory(id="p", text="nothing")],
    }
    return Knowledge(fields, snapshot)


async def test_no_call_reaches_what_another_tenant_has(reader: Client, tenant: str) -> None:
    """Of all methods there are: the owner's request works, another tenant's is in vain."""
    ann, bob = f"{tenant}-ann", f"{tenant}-bob"
    known = await furnish(reader, ann)
    methods = methods_of(reader)
    assert {method.containing_service.full_name for method in methods} == set(reader.services)

    async def saved() -> list[bytes]:
        with call_context(tenant_id=ann):
            return [await export(reader, name) for name in ("secret", "diary")]

    before = await saved()
    with call_context(tenant_id=bob):
        await reader.create("own")
        tries = [
            (method, target)
            for makers in (False, True)
            for target in ("secret", "hidden")
            for method in methods
            if (method.name in MAKERS) is makers
        ]
        for method, target in tries:
            try:
                got = await answers(reader, method, known.request(method, target))
            except StepwireError as refusal:
                missing = {Reason.COLLECTION_NOT_FOUND, Reason.INDEX_BUILD_NOT_FOUND}
                if refusal.reason not in missing:
                    pytest.fail(f"{method.full_name}: {refusal!r}")
                continue
            if method.name not in {*MAKERS, "ListCollections"}:
                assert got == [type(got[0])()], method.full_name
            if method.name != "ImportCollection":
                assert SECRET not in str(got), method.full_name
                assert method.name in MAKERS or "secret" not in str(got), method.full_name
    assert await saved() == before
    with call_context(tenant_id=ann):
        for method in methods:
            try:
                await answers(reader, method, known.request(method, "secret"))
            except StepwireError as wrong:
                pytest.fail(f"{method.full_name}: the request proves nothing: {wrong!r}")


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
    client: Client, tenant: str, history: list[tuple[str, str, str]]
) -> None:
    """Whatever tenants do under the same names, each finds what it left, and no more."""
    expected: dict[str, dict[str, set[str]]] = {who: {} for who in TENANTS}
    for number, (who, verb, name) in enumerate(history):
        own = expected[who]
        with call_context(tenant_id=tenant + who):
            if verb == "make":
                await client.create(name)
                own.setdefault(name, set())
            elif name not in own:
                async with refused() as error:
                    await client.get(["x"], name)
                assert error().reason is Reason.COLLECTION_NOT_FOUND
            elif verb == "write":
                await client.upsert([point(f"{who}-{number}", [1, 2, 3])], name)
                own[name].add(f"{who}-{number}")
            elif verb == "drop":
                await client.drop(name)
                del own[name]
    for who, own in expected.items():
        with call_context(tenant_id=tenant + who):
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


async def test_postgres_itself_refuses_another_tenants_rows(
    reader: Client, service_url: str, tenant: str
) -> None:
    ann, bob = f"{tenant}-ann", f"{tenant}-bob"
    await furnish(reader, ann)
    with call_context(tenant_id=bob):
        await reader.create("own")
    table = await table_of(service_url, ann, "secret")

    async def points(connection: PoolConnectionProxy) -> Any:
        return await connection.fetch(f"SELECT id FROM {table}")

    assert [row["id"] for row in await lent(service_url, ann, points)] == ["p"]
    for statement in (
        f"SELECT * FROM {table}",
        f"INSERT INTO {table} (id, embedding, payload) VALUES ('x', '[1,2,3]', '{{}}')",
        f"UPDATE {table} SET payload = '{{}}'",
        f"DELETE FROM {table}",
        f"DROP TABLE {table}",
        "UPDATE vector.collections SET tenant_id = 'bob'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await lent(service_url, bob, lambda connection, sql=statement: connection.execute(sql))
    shared = await tables_with_tenants(service_url)
    assert {"collections", "names", "index_builds", "recalls", "query_samples"} <= set(shared)
    for relation in shared:

        async def tenants(connection: PoolConnectionProxy, table: str = relation) -> Any:
            return await connection.fetch(f"SELECT tenant_id FROM vector.{table}")

        async def anns() -> bool:
            return bool(await lent(service_url, ann, tenants))

        seen = {row["tenant_id"] for row in await lent(service_url, bob, tenants)}
        assert seen <= {bob}
        assert await eventually(anns), relation


async def tables_with_tenants(url: str) -> list[str]:
    """The tables that hold rows of several tenants, whoever added them."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = 'vector' AND column_name = 'tenant_id'"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def test_a_tenant_that_never_made_anything_has_no_role(
    service: Client, service_url: str
) -> None:
    async def nothing(connection: PoolConnectionProxy) -> None:
        await connection.execute("SELECT 1")

    with pytest.raises(TenantUnknownError):
        await lent(service_url, "never-seen", nothing)
