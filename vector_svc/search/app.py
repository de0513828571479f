"""The parts of searching, put together."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from stepwire.api.vector.v1.search_service_pb2_grpc import add_SearchServiceServicer_to_server
from stepwire.rpc import Service
from vector_svc.collections.registry import Collections
from vector_svc.embedding.ports import Embedder, Reranker
from vector_svc.metrics import VectorMetrics
from vector_svc.search.courses import Courses
from vector_svc.search.estimates import Estimates
from vector_svc.search.recall import Recalls
from vector_svc.search.recall_store import PostgresQuerySamples, PostgresRecalls
from vector_svc.search.reranking import Reranking
from vector_svc.search.samples import QuerySamples
from vector_svc.search.search import Searches
from vector_svc.search.servicer import SERVICE_NAME, SearchServicer
from vector_svc.search.store import PostgresSearches
from vector_svc.search.target import Targets
from vector_svc.settings import VectorSettings
from vector_svc.store.database import Database
from vector_svc.store.places import Places


def wire(
    settings: VectorSettings,
    database: Database,
    collections: Collections,
    *,
    embedder: Embedder,
    reranker: Reranker,
    metrics: VectorMetrics,
    stack: AsyncExitStack,
) -> tuple[Searches, Service]:
    """Return searches, and SearchService."""
    store = PostgresSearches(
        database,
        walks=Places(
            settings.walks_at_once(),
            limit="max_walks",
            what="place for a walk of an index",
            seconds=settings.postgres_acquire_seconds,
        ),
        hnsw_max_scan_tuples=settings.hnsw_max_scan_tuples,
    )
    estimates = Estimates(
        store,
        cache_entries=settings.estimate_cache_entries,
        cache_seconds=settings.estimate_cache_seconds,
    )
    samples = QuerySamples(
        PostgresQuerySamples(database),
        metrics,
        rate=settings.query_sample_rate,
        every_seconds=settings.query_sample_seconds,
    )
    stack.callback(asyncio.create_task(samples.run(), name="query samples").cancel)
    searches = Searches(
        store,
        targets=Targets(store, embedder),
        reranking=Reranking(reranker),
        collections=collections,
        courses=Courses(store, estimates, hnsw_ef_search=settings.hnsw_ef_search),
        samples=samples,
        metrics=metrics,
    )
    recalls = Recalls(
        PostgresRecalls(database, store), collections=collections, estimates=estimates
    )
    servicer = SearchServicer(
        searches,
        recalls,
        filter_max_bytes=settings.payload_max_bytes,
        calls_per_stream=settings.max_calls_per_stream,
    )
    service = Service(
        SERVICE_NAME,
        partial(add_SearchServiceServicer_to_server, servicer),
        drain=servicer.streams.drain,
        attach=servicer.streams.attach,
    )
    return searches, service
