"""A vector service in the test's process, and what tests say to it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc.aio
import numpy as np
import pytest
from pydantic import SecretStr

from model_svc import app as model_app
from model_svc.settings import ModelSettings
from stepwire.api.vector.v1.collection_pb2 import METRIC_COSINE, Collection, Metric
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    DeleteCollectionRequest,
    GetCollectionRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.api.vector.v1.filter_pb2 import Filter
from stepwire.api.vector.v1.index_service_pb2_grpc import IndexServiceStub
from stepwire.api.vector.v1.memory_service_pb2_grpc import MemoryServiceStub
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.point_service_pb2 import (
    DeletePointsRequest,
    GetPointsRequest,
    UpsertPointsRequest,
)
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.api.vector.v1.search_pb2 import ScoredPoint
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest, SearchPointsResponse
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceStub
from stepwire.api.vector.v1.snapshot_service_pb2_grpc import SnapshotServiceStub
from stepwire.errors import StepwireError
from stepwire.rpc import Server, open_channel
from stepwire.rpc.status import from_rpc_error
from stepwire.stack.postgres import PostgresServer
from vector_svc import app
from vector_svc.settings import VectorSettings

if TYPE_CHECKING:  # the generated module has it for type checkers only
    from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceAsyncStub
    from stepwire.api.vector.v1.index_service_pb2_grpc import IndexServiceAsyncStub
    from stepwire.api.vector.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub
    from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceAsyncStub
    from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceAsyncStub
    from stepwire.api.vector.v1.snapshot_service_pb2_grpc import SnapshotServiceAsyncStub


class Client:
    """The service as a caller sees it, in few words.

    Args:
        channel: To the service.
        server: The service's server.
        services: Full names of what it serves.
    """

    def __init__(self, channel: grpc.aio.Channel, server: Server, services: Sequence[str]) -> None:
        self.channel = channel
        self.server = server
        self.address = server.address
        self.services = services
        self.collections: CollectionServiceAsyncStub = CollectionServiceStub(channel)
        self.points: PointServiceAsyncStub = PointServiceStub(channel)
        self.searches: SearchServiceAsyncStub = SearchServiceStub(channel)
        self.indexes: IndexServiceAsyncStub = IndexServiceStub(channel)
        self.snapshots: SnapshotServiceAsyncStub = SnapshotServiceStub(channel)
        self.memories: MemoryServiceAsyncStub = MemoryServiceStub(channel)

    async def create(
        self,
        name: str = "things",
        dimension: int = 3,
        metric: "Metric.ValueType" = METRIC_COSINE,
        **options: Any,
    ) -> Collection:
        wanted = Collection(name=name, dimension=dimension, metric=metric, **options)
        request = CreateCollectionRequest(collection=wanted)
        return (await self.collections.CreateCollection(request)).collection

    async def upsert(self, points: Iterable[Point], name: str = "things") -> int:
        request = UpsertPointsRequest(collection=name, points=points)
        return (await self.points.UpsertPoints(request)).upserted

    async def search(self, vector: Any, name: str = "things", **options: Any) -> list[ScoredPoint]:
        return list((await self.find(vector, name, **options)).points)

    async def find(
        self, vector: Any = b"", name: str = "things", **options: Any
    ) -> SearchPointsResponse:
        """Search, and return what is said of it as well."""
        request = SearchPointsRequest(collection=name, vector=raw(vector), **options)
        return await self.searches.SearchPoints(request)

    async def get(
        self, ids: Iterable[str], name: str = "things", *, include_vectors: bool = False
    ) -> list[Point]:
        request = GetPointsRequest(collection=name, ids=ids, include_vectors=include_vectors)
        return list((await self.points.GetPoints(request)).points)

    async def delete(self, ids: Iterable[str], name: str = "things") -> int:
        request = DeletePointsRequest(collection=name, ids=ids)
        return (await self.points.DeletePoints(request)).deleted

    async def count(self, name: str = "things") -> int:
        request = GetCollectionRequest(collection=name)
        return (await self.collections.GetCollection(request)).collection.point_count

    async def drop(self, name: str = "things") -> None:
        await self.collections.DeleteCollection(DeleteCollectionRequest(collection=name))


def raw(vector: Any) -> bytes:
    """The bytes of a vector on the wire; bytes are left as they are."""
    return vector if isinstance(vector, bytes) else np.asarray(vector, dtype="<f4").tobytes()


def point(point_id: str, vector: Any, payload: Mapping[str, Any] | None = None) -> Point:
    made = Point(id=point_id, vector=raw(vector))
    if payload is not None:
        made.payload.SetInParent()
        made.payload.update(payload)
    return made


def containing(**fields: Any) -> Filter:
    """The filter of points whose payload contains these fields."""
    made = Filter()
    contains = made.must.add().contains
    contains.SetInParent()
    contains.update(fields)
    return made


@asynccontextmanager
async def refused() -> AsyncIterator[Callable[[], StepwireError]]:
    """Expect the block's call to be refused; gives what says why."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield lambda: error
    found = from_rpc_error(caught.value)
    assert found is not None, caught.value
    error = found


@asynccontextmanager
async def serving(url: str, **options: Any) -> AsyncIterator[Client]:
    """Run a service over the database at `url` and give a client of it."""
    settings = VectorSettings(port=0, postgres_url=SecretStr(url), **options)
    async with AsyncExitStack() as stack:
        services = await app.build(settings, stack)
        server = await stack.enter_async_context(Server(app.NAME, settings, services))
        channel = open_channel(server.address, retry_unavailable=False)
        await stack.enter_async_context(channel)
        yield Client(channel, server, [service.name for service in services])


@asynccontextmanager
async def serving_models(cache_dir: Path) -> AsyncIterator[str]:
    """Run a model service and give its address."""
    settings = ModelSettings(port=0, cache_dir=cache_dir)
    async with AsyncExitStack() as stack:
        services = await model_app.build(stack, settings=settings)
        server = await stack.enter_async_context(Server("model", settings, services))
        yield server.address


async def table_of(url: str, tenant: str, name: str = "things") -> str:
    """The table of a collection's points."""
    connection = await asyncpg.connect(url)
    try:
        number = await connection.fetchval(
            "SELECT collection_id FROM vector.names WHERE tenant_id = $1 AND name = $2",
            tenant,
            name,
        )
    finally:
        await connection.close()
    return f"vector.points_{number}"


async def tables_of(url: str, tenant: str) -> list[str]:
    """The tables of points that a tenant may read."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            """
            SELECT relname FROM pg_class
            WHERE relname ~ '^points_[0-9]+$' AND relkind = 'r' AND EXISTS (
                SELECT FROM pg_roles
                WHERE rolname = vector.role_of($1)
                    AND has_table_privilege(pg_roles.oid, pg_class.oid, 'SELECT')
            )
            """,
            tenant,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


needs_prlimit = pytest.mark.skipif(
    shutil.which("prlimit") is None, reason="prlimit is not installed"
)


async def limit_memory(postgres: PostgresServer, processes: Iterable[int], limit: str) -> None:
    """Let some of Postgres' processes have no more memory than a limit, as prlimit takes it."""
    for process in processes:
        # Who Postgres runs as may limit it; root may not everywhere.
        limiting = await asyncio.create_subprocess_exec(
            *("prlimit", f"--pid={process}", f"--as={limit}"),
            user=postgres.account,
            group=postgres.account,
        )
        assert await limiting.wait() == 0
