"""From settings to a running service."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from stepwire.api.vector.v1 import (
    collection_service_pb2,
    index_service_pb2,
    point_service_pb2,
    snapshot_service_pb2,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import (
    add_CollectionServiceServicer_to_server,
)
from stepwire.api.vector.v1.index_service_pb2_grpc import add_IndexServiceServicer_to_server
from stepwire.api.vector.v1.point_service_pb2_grpc import add_PointServiceServicer_to_server
from stepwire.api.vector.v1.snapshot_service_pb2_grpc import add_SnapshotServiceServicer_to_server
from stepwire.db import load_queries, migrate, open_pool
from stepwire.db.notices import Notices
from stepwire.db.pool_metrics import watched_pool
from stepwire.lifecycle import StartError
from stepwire.rpc import Service, open_channel
from stepwire.rpc import run as run_process
from vector_svc.aliases.aliases import Aliases
from vector_svc.aliases.store import PostgresAliases
from vector_svc.collections.codec import IndexDefaults
from vector_svc.collections.registry import Collections
from vector_svc.collections.servicer import CollectionServicer
from vector_svc.collections.store import PostgresCollections
from vector_svc.embedding.client import ModelEmbedder, ModelReranker
from vector_svc.embedding.ports import Embedder, Reranker
from vector_svc.indexes.builder import Builder
from vector_svc.indexes.builds import IndexBuilds
from vector_svc.indexes.servicer import IndexServicer
from vector_svc.indexes.store import PostgresBuilds
from vector_svc.indexes.works import PostgresWorks
from vector_svc.memories import app as memories
from vector_svc.metrics import VectorMetrics
from vector_svc.points.bulk import BulkUpserts
from vector_svc.points.points import Points
from vector_svc.points.servicer import PointServicer
from vector_svc.points.store import PostgresPoints
from vector_svc.search import app as search
from vector_svc.settings import VectorSettings
from vector_svc.snapshots.pace import Limits
from vector_svc.snapshots.servicer import SnapshotServicer
from vector_svc.snapshots.snapshots import Snapshots
from vector_svc.snapshots.store import PostgresSnapshots
from vector_svc.store.database import Database, open_connections
from vector_svc.sweeping.store import PostgresSweep
from vector_svc.sweeping.sweeper import Sweeper

NAME = "vector"
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"].full_name
POINTS = point_service_pb2.DESCRIPTOR.services_by_name["PointService"].full_name
INDEXES = index_service_pb2.DESCRIPTOR.services_by_name["IndexService"].full_name
SNAPSHOTS = snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"].full_name

# Of the time to drain, what snapshots under way have of it.
SNAPSHOT_DRAIN_SHARE = 0.5

# Earlier ones can corrupt or fail to repair HNSW indexes.
OLDEST_PGVECTOR = (0, 8, 4)

# Where changes of collections and aliases are told, by triggers.
CHANNEL = "stepwire_vector"

_QUERIES = load_queries("vector_svc", "sql/collections.sql")


def run(settings: VectorSettings) -> None:
    """Serve until a signal ends the process."""
    run_process(NAME, settings, partial(build, settings))


async def build(settings: VectorSettings, stack: AsyncExitStack) -> Sequence[Service]:
    """Bring the database up to date, open what the service needs, and return it.

    Raises:
        StartError: pgvector is too old.
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    await _prepare(settings.postgres_url.get_secret_value())
    database = await _connect(
        settings,
        stack,
        name=f"stepwire-{NAME}",
        connections=(settings.postgres_min_connections, settings.postgres_max_connections),
    )
    models = await stack.enter_async_context(open_channel(settings.model_target))
    # Snapshots keep connections for hours, and must not take those of short calls.
    lasting = await _connect(
        settings, stack, name=f"stepwire-{NAME}-snapshots", connections=(0, settings.max_snapshots)
    )
    model = ModelEmbedder(models), ModelReranker(models)
    return _services(settings, (database, lasting), model, stack)


async def _connect(
    settings: VectorSettings, stack: AsyncExitStack, *, name: str, connections: tuple[int, int]
) -> Database:
    least, most = connections
    pool = await stack.enter_async_context(
        open_connections(
            settings.postgres_url.get_secret_value(),
            application_name=name,
            min_size=least,
            max_size=most,
        )
    )
    database = Database(
        pool,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=settings.postgres_statement_seconds,
    )
    stack.push_async_callback(database.close)
    stack.enter_context(watched_pool(name.removeprefix("stepwire-"), lambda: database.use))
    return database


async def _prepare(url: str) -> None:
    # By a connection of its own: those of the service set codecs for the type `vector`,
    # which is only there once this is done.
    async with open_pool(url, application_name=f"stepwire-{NAME}-start", max_size=1) as pool:
        await migrate(pool, package="vector_svc", schema="vector")
        await _check_pgvector(pool)


async def _check_pgvector(pool: asyncpg.Pool) -> None:
    version: str = await pool.fetchval(_QUERIES.pgvector_version)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_PGVECTOR:
        oldest = ".".join(map(str, OLDEST_PGVECTOR))
        raise StartError(
            f"pgvector {version} is too old: install {oldest} or newer, then run "
            "ALTER EXTENSION vector UPDATE in the database"
        )


def _services(
    settings: VectorSettings,
    databases: tuple[Database, Database],
    model: tuple[Embedder, Reranker],
    stack: AsyncExitStack,
) -> Sequence[Service]:
    (database, lasting), (embedder, reranker) = databases, model
    metrics = VectorMetrics()
    store = PostgresCollections(database)
    collections = Collections(store, cache_entries=settings.collection_cache_entries)
    notices = Notices(
        settings.postgres_url.get_secret_value(),
        CHANNEL,
        told=lambda _: collections.forget(),
        listens=lambda telling: collections.trust(telling=telling),
    )
    sweeper = Sweeper(
        PostgresSweep(database),
        metrics,
        every_seconds=settings.sweep_seconds,
        batch=settings.sweep_batch,
    )
    for name, running in (("notices", notices.run()), ("sweeper", sweeper.run())):
        stack.callback(asyncio.create_task(running, name=name).cancel)
    catalogue = CollectionServicer(
        collections,
        Aliases(PostgresAliases(database), collections.forget),
        defaults=IndexDefaults(
            m=settings.hnsw_m,
            ef_construction=settings.hnsw_ef_construction,
            min_points=settings.index_min_points,
        ),
    )
    points, point_service = _points(settings, database, collections, embedder, metrics)
    searches, search_service = search.wire(
        settings,
        database,
        collections,
        embedder=embedder,
        reranker=reranker,
        metrics=metrics,
        stack=stack,
    )
    return [
        Service(COLLECTIONS, partial(add_CollectionServiceServicer_to_server, catalogue)),
        point_service,
        search_service,
        memories.wire(
            settings,
            database,
            collections=collections,
            points=points,
            searches=searches,
            embedder=embedder,
        ),
        _indexes(settings, database, collections, metrics, stack),
        _snapshots(settings, lasting, collections),
    ]


def _points(
    settings: VectorSettings,
    database: Database,
    collections: Collections,
    embedder: Embedder,
    metrics: VectorMetrics,
) -> tuple[Points, Service]:
    store = PostgresPoints(database, payload_max_bytes=settings.payload_max_bytes)
    points = Points(store, collections=collections, embedder=embedder, metrics=metrics)
    servicer = PointServicer(
        points,
        BulkUpserts(
            store,
            collections=collections,
            metrics=metrics,
            payload_max_bytes=settings.payload_max_bytes,
        ),
        payload_max_bytes=settings.payload_max_bytes,
    )
    return points, Service(POINTS, partial(add_PointServiceServicer_to_server, servicer))


def _indexes(
    settings: VectorSettings,
    database: Database,
    collections: Collections,
    metrics: VectorMetrics,
    stack: AsyncExitStack,
) -> Service:
    store = PostgresBuilds(database)
    works = PostgresWorks(
        database,
        settings.postgres_url.get_secret_value(),
        workers=settings.index_build_workers,
    )
    builder = Builder(
        works,
        store,
        metrics,
        memory_bytes=settings.index_build_memory_bytes,
        every_seconds=settings.index_build_seconds,
    )
    stack.callback(asyncio.create_task(builder.run(), name="index builder").cancel)
    builds = IndexBuilds(
        store,
        collections=collections,
        memory_bytes=settings.index_build_memory_bytes,
        requested=builder.look,
    )
    return Service(INDEXES, partial(add_IndexServiceServicer_to_server, IndexServicer(builds)))


def _snapshots(settings: VectorSettings, database: Database, collections: Collections) -> Service:
    snapshots = Snapshots(
        PostgresSnapshots(database, payload_max_bytes=settings.payload_max_bytes),
        collections,
        Limits(
            most=settings.max_snapshots,
            stall_seconds=settings.snapshot_stall_seconds,
            max_seconds=settings.snapshot_max_seconds,
        ),
    )

    async def drain() -> None:
        # Those that are nearly done may end; the others are told in time that they do not.
        grace = settings.drain_seconds * SNAPSHOT_DRAIN_SHARE
        asyncio.get_running_loop().call_later(grace, snapshots.stop)

    add = partial(add_SnapshotServiceServicer_to_server, SnapshotServicer(snapshots))
    return Service(SNAPSHOTS, add, drain=drain)
