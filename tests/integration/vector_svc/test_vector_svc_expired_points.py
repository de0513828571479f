"""An expired point is not there, though its row may be: whatever is asked, the answer is that of a
collection that never had it.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc.aio import AioRpcError
from vector_svc_harness import Client, containing, point, raw, serving, table_of

from stepwire.api.vector.v1.collection_pb2 import FIELD_TYPE_INT, PromotedField, TextOptions
from stepwire.api.vector.v1.collection_service_pb2 import (
    GetCollectionRequest,
    GetCollectionStatsRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.filter_pb2 import Filter
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.point_service_pb2 import (
    UPSERT_MODE_INSERT_ONLY,
    UPSERT_MODE_UPDATE_ONLY,
    BulkUpsertPointsRequest,
    CountPointsRequest,
    DeletePointsRequest,
    FacetPointsRequest,
    GetPointsRequest,
    ScrollPointsRequest,
    UpdatePayloadsRequest,
    UpsertPointsRequest,
)
from stepwire.api.vector.v1.search_pb2 import Examples, WordQuery
from stepwire.api.vector.v1.search_service_pb2 import SearchGroupsRequest, SearchPointsRequest
from stepwire.api.vector.v1.snapshot_service_pb2 import (
    ExportCollectionRequest,
    ImportCollectionRequest,
)
from stepwire.rpc.status import from_rpc_error

V = [1.0, 2.0, 3.0]
OLD = {"n": 1, "kind": "old", "body": "a boat"}
NAME = {"collection": "things"}

Verb = Callable[[Client], Any]


@pytest_asyncio.fixture(scope="module")
async def unswept(own_url: str) -> AsyncIterator[Client]:
    """Gives a service that never removes what has expired."""
    async with serving(own_url, sweep_seconds=1e6) as made:
        yield made


async def furnish(client: Client) -> None:
    await client.create(
        text=TextOptions(field="body"), fields=[PromotedField(name="n", type=FIELD_TYPE_INT)]
    )
    await client.upsert([point("live", [3, 2, 1], {"n": 2, "kind": "new", "body": "a tide"})])


async def expire(client: Client) -> str:
    """Add a point whose time has come; return what its hash was before."""
    await client.upsert([point("gone", V, OLD)])
    request = GetPointsRequest(**NAME, ids=["gone"], include_hashes=True)
    [found] = (await client.points.GetPoints(request)).points
    gone = point("gone", V, OLD)
    gone.expire_time.FromSeconds(1)
    await client.upsert([gone])
    return found.content_hash


HASH = "0" * 32


def upsert(made: Point, mode: Any = 0, *, expires: int = 0) -> Verb:
    def call(client: Client) -> Any:
        if expires:
            made.expire_time.FromSeconds(expires)
        return client.points.UpsertPoints(UpsertPointsRequest(**NAME, points=[made], mode=mode))

    return call


def expecting(hash_: str) -> Verb:
    made = point("gone", V, OLD)
    made.content_hash = hash_
    return upsert(made)


async def bulk(client: Client) -> Message:
    async def sent() -> AsyncIterator[BulkUpsertPointsRequest]:
        yield BulkUpsertPointsRequest(**NAME, ids=["gone", "live", "x"], vectors=raw(V * 3))

    return await client.points.BulkUpsertPoints(sent())


async def copied(client: Client) -> Any:
    """What an import makes of an export."""
    parts = client.snapshots.ExportCollection(ExportCollectionRequest(**NAME))
    sent = [ImportCollectionRequest(collection="copy", data=part.data) async for part in parts]
    made = (await client.snapshots.ImportCollection(iter(sent))).collection
    await client.drop("copy")
    return made.point_count


async def in_stats(client: Client) -> Any:
    request = GetCollectionStatsRequest(**NAME)
    stats = (await client.collections.GetCollectionStats(request)).stats
    return stats.point_count, stats.expiring_points


async def in_collection(client: Client) -> Any:
    found = await client.collections.GetCollection(GetCollectionRequest(**NAME))
    listed = await client.collections.ListCollections(ListCollectionsRequest())
    return found.collection.point_count, [each.point_count for each in listed.collections]


def found(**query: Any) -> Verb:
    async def call(client: Client) -> Any:
        response = await client.searches.SearchPoints(SearchPointsRequest(**NAME, **query))
        return [hit.point.id for hit in response.points]

    return call


VERBS: dict[str, Verb] = {
    "upsert of the same": upsert(point("gone", V, OLD)),
    "upsert of the same, expired": upsert(point("gone", V, OLD), expires=1),
    "upsert of the same, to expire": upsert(point("gone", V, OLD), expires=10**10),
    "upsert of another": upsert(point("gone", [9, 9, 9], {"n": 7})),
    "upsert, insert only": upsert(point("gone", V, OLD), UPSERT_MODE_INSERT_ONLY),
    "upsert, update only": upsert(point("gone", V, {"n": 3}), UPSERT_MODE_UPDATE_ONLY),
    "upsert with the old hash": expecting(HASH),
    "bulk upsert": bulk,
    "get": lambda client: client.points.GetPoints(
        GetPointsRequest(**NAME, ids=["gone", "live"], include_vectors=True, include_hashes=True)
    ),
    "delete by id": lambda client: client.points.DeletePoints(
        DeletePointsRequest(**NAME, ids=["gone"])
    ),
    "delete by filter": lambda client: client.points.DeletePoints(
        DeletePointsRequest(**NAME, filter=Filter())
    ),
    **{
        f"update payloads by {which}: {next(iter(change))}": (
            lambda client, where=where, change=change: client.points.UpdatePayloads(
                UpdatePayloadsRequest(**NAME, **where, **change)
            )
        )
        for which, where in (("id", {"ids": ["gone"]}), ("filter", {"filter": Filter()}))
        for change in ({"set": {"n": 5}}, {"merge": {"n": 5}}, {"remove": {"names": ["kind"]}})
    },
    "count": lambda client: client.points.CountPoints(CountPointsRequest(**NAME)),
    "count by filter": lambda client: client.points.CountPoints(
        CountPointsRequest(**NAME, filter=containing(kind="old"))
    ),
    "facet": lambda client: client.points.FacetPoints(FacetPointsRequest(**NAME, field="kind")),
    "scroll": lambda client: client.points.ScrollPoints(ScrollPointsRequest(**NAME)),
    "search": found(vector=raw(V)),
    "search by filter": found(vector=raw(V), filter=containing(kind="old")),
    "search by words": found(words=WordQuery(words="boat tide")),
    "search by both": found(vector=raw(V), words=WordQuery(words="boat tide")),
    "search of points like it": found(examples=Examples(positive_ids=["gone"])),
    "groups": lambda client: client.searches.SearchGroups(
        SearchGroupsRequest(search=SearchPointsRequest(**NAME, vector=raw(V)), group_by="kind")
    ),
    "collection": in_collection,
    "stats": in_stats,
    "export": copied,
}


async def answer(verb: Verb, client: Client) -> Any:
    try:
        return await verb(client)
    except AioRpcError as refusal:
        error = from_rpc_error(refusal)
    return error and (error.reason, error.metadata)


async def state(client: Client) -> Any:
    """What anybody can see afterwards."""
    page = await client.points.ScrollPoints(ScrollPointsRequest(**NAME, include_vectors=True))
    words = [hit.point.id for hit in await client.search(b"", words=WordQuery(words="boat tide"))]
    return [*page.points], words, await in_stats(client)


@pytest.mark.parametrize("name", VERBS)
async def test_what_has_expired_is_as_if_it_had_never_been(
    unswept: Client, own_url: str, tenant: str, name: str
) -> None:
    verb = VERBS[name]
    await furnish(unswept)
    wanted = await answer(verb, unswept), await state(unswept)
    await unswept.drop()

    await furnish(unswept)
    old = await expire(unswept)
    connection = await asyncpg.connect(own_url)
    try:
        table = await table_of(own_url, tenant)
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 2
    finally:
        await connection.close()
    if name == "upsert with the old hash":
        verb = expecting(old)
    assert (await answer(verb, unswept), await state(unswept)) == wanted
