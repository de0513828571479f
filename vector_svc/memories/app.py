"""The parts of remembering, put together."""

from functools import partial
from typing import Final

from stepwire.api.vector.v1 import memory_service_pb2
from stepwire.api.vector.v1.memory_service_pb2_grpc import add_MemoryServiceServicer_to_server
from stepwire.rpc import Service
from vector_svc.collections.registry import Collections
from vector_svc.embedding.ports import Embedder
from vector_svc.engine.records import IndexOptions
from vector_svc.memories.memories import Memories
from vector_svc.memories.servicer import MemoryServicer
from vector_svc.memories.store import PostgresMemories
from vector_svc.points.points import Points
from vector_svc.search.search import Searches
from vector_svc.settings import VectorSettings
from vector_svc.store.database import Database

SERVICE_NAME: Final = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name


def wire(
    settings: VectorSettings,
    database: Database,
    *,
    collections: Collections,
    points: Points,
    searches: Searches,
    embedder: Embedder,
) -> Service:
    """Return MemoryService."""
    memories = Memories(
        PostgresMemories(database),
        points=points,
        searches=searches,
        collections=collections,
        embedder=embedder,
        model=settings.memory_model,
        index=IndexOptions(
            m=settings.hnsw_m,
            ef_construction=settings.hnsw_ef_construction,
            min_points=settings.index_min_points,
        ),
        payload_max_bytes=settings.payload_max_bytes,
    )
    servicer = MemoryServicer(memories, payload_max_bytes=settings.payload_max_bytes)
    return Service(SERVICE_NAME, partial(add_MemoryServiceServicer_to_server, servicer))
