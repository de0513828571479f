"""From settings to a running service."""

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from stepwire.api.vector.v1 import collection_service_pb2, point_service_pb2, search_service_pb2
from stepwire.api.vector.v1.collection_service_pb2_grpc import (
    add_CollectionServiceServicer_to_server,
)
from stepwire.api.vector.v1.point_service_pb2_grpc import add_PointServiceServicer_to_server
from stepwire.api.vector.v1.search_service_pb2_grpc import add_SearchServiceServicer_to_server
from stepwire.db import migrate, open_pool
from stepwire.lifecycle import StartError
from stepwire.rpc import Service
from stepwire.rpc import run as run_process
from vector_svc.collections.registry import Collections
from vector_svc.collections.servicer import CollectionServicer
from vector_svc.collections.store import PostgresCollections
from vector_svc.metrics import VectorMetrics
from vector_svc.points.points import Points
from vector_svc.points.servicer import PointServicer
from vector_svc.points.store import PostgresPoints
from vector_svc.search.estimates import Estimates
from vector_svc.search.search import Searches
from vector_svc.search.servicer import SearchServicer
from vector_svc.search.store import PostgresSearches
from vector_svc.settings import VectorSettings
from vector_svc.store.codecs import set_codecs
from vector_svc.store.database import Database
from vector_svc.store.statements import QUERIES

NAME = "vector"
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"].full_name
POINTS = point_service_pb2.DESCRIPTOR.services_by_name["PointService"].full_name
SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name

# Earlier ones can corrupt or fail to repair HNSW indexes.
OLDEST_PGVECTOR = (0, 8, 4)


def run(settings: VectorSettings) -> None:
    """Serve until a signal ends the process."""
    run_process(NAME, settings, partial(build, settings))


async def build(settings: VectorSettings, stack: AsyncExitStack) -> Sequence[Service]:
    """Bring the database up to date, open what the service needs, and return it.

    Raises:
        StartError: pgvector is too old.
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    url = settings.postgres_url.get_secret_value()
    await _prepare(url)
    pool = await stack.enter_async_context(
        open_pool(
            url,
            application_name=f"stepwire-{NAME}",
            min_size=settings.postgres_min_connections,
            max_size=settings.postgres_max_connections,
            init=set_codecs,
        )
    )
    database = Database(
        pool,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=settings.postgres_statement_seconds,
    )
    stack.push_async_callback(database.close)
    return _services(settings, database)


async def _prepare(url: str) -> None:
    # By a connection of its own: those of the service set codecs for the type `vector`,
    # which is only there once this is done.
    async with open_pool(url, application_name=f"stepwire-{NAME}-start", max_size=1) as pool:
        await migrate(pool, package="vector_svc", schema="vector")
        await _check_pgvector(pool)


async def _check_pgvector(pool: asyncpg.Pool) -> None:
    version: str = await pool.fetchval(QUERIES.pgvector_version)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_PGVECTOR:
        oldest = ".".join(map(str, OLDEST_PGVECTOR))
        raise StartError(
            f"pgvector {version} is too old: install {oldest} or newer, then run "
            "ALTER EXTENSION vector UPDATE in the database"
        )


def _services(settings: VectorSettings, database: Database) -> Sequence[Service]:
    metrics = VectorMetrics()
    collections = Collections(
        PostgresCollections(
            database,
            hnsw_m=settings.hnsw_m,
            hnsw_ef_construction=settings.hnsw_ef_construction,
        ),
        cache_entries=settings.collection_cache_entries,
    )
    points = PointServicer(
        Points(PostgresPoints(database), collections=collections, metrics=metrics),
        payload_max_bytes=settings.payload_max_bytes,
    )
    searches = SearchServicer(
        _searches(settings, database, collections, metrics),
        filter_max_bytes=settings.payload_max_bytes,
    )
    return [
        Service(
            COLLECTIONS,
            partial(add_CollectionServiceServicer_to_server, CollectionServicer(collections)),
        ),
        Service(POINTS, partial(add_PointServiceServicer_to_server, points)),
        Service(SEARCH, partial(add_SearchServiceServicer_to_server, searches)),
    ]


def _searches(
    settings: VectorSettings, database: Database, collections: Collections, metrics: VectorMetrics
) -> Searches:
    store = PostgresSearches(
        database,
        hnsw_ef_search=settings.hnsw_ef_search,
        hnsw_max_scan_tuples=settings.hnsw_max_scan_tuples,
    )
    estimates = Estimates(
        store,
        cache_entries=settings.estimate_cache_entries,
        cache_seconds=settings.estimate_cache_seconds,
    )
    return Searches(store, collections=collections, estimates=estimates, metrics=metrics)
