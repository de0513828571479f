"""Wiring of the caches."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import asyncpg
import grpc.aio

from router_svc.cache.answers import Answers, Record
from router_svc.cache.behind import Behind
from router_svc.cache.client import VectorNeighbours
from router_svc.cache.front import CachedRouter, Clocks, Levels
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.operating import CacheOperations
from router_svc.cache.part import Part
from router_svc.cache.ports import Neighbours
from router_svc.cache.semantic import SameMeaning
from router_svc.cache.servicer import SERVICE_NAME, CacheServicer
from router_svc.cache.sharing import Sharing
from router_svc.cache.store import PostgresAnswerStore
from router_svc.catalogue.holder import CatalogueHolder
from router_svc.generate.ports import Answering, UsageRecorder
from router_svc.settings import RouterSettings
from stepwire.api.router.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from stepwire.rpc import Service, open_channel
from stepwire.telemetry import meter

NO_VECTORS = "the settings name no vector service"


@dataclass(frozen=True, slots=True)
class Caching:
    """What the caches give to the rest.

    Attributes:
        router: Answers requests, from the caches where they allow it.
        services: What shows and empties the caches.
    """

    router: Answering
    services: Sequence[Service]


async def wire(
    router: Answering,
    holder: CatalogueHolder,
    pool: asyncpg.Pool | None,
    model: grpc.aio.Channel,
    *,
    usage: UsageRecorder,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Caching:
    """Lets answers be kept and given again, from now on.

    Args:
        router: Makes answers.
        holder: Has the catalogue.
        pool: The database; None keeps answers in memory only.
        model: Channel to model_svc.
        usage: Writes down what was given again.
        settings: The settings.
        stack: Closes what this opens.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    ttl = settings.cache_ttl_seconds
    metrics = CacheMetrics(meter())
    memory = MemoryAnswers(settings.cache_memory_bytes, ttl_seconds=ttl, clock=time.time)
    metrics.watch_memory(lambda: memory.size_bytes)
    record = await _record(pool, memory, settings, stack)
    answers = Answers(memory, record, metrics, deadline_seconds=settings.cache_deadline_seconds)
    meaning = Part("meaning", time.monotonic)
    neighbours = await _neighbours(model, meaning, settings, stack)
    behind = Behind(record, neighbours, meaning, metrics, ttl_seconds=ttl)
    # Answers of the last moments are written when the rest has ended.
    stack.push_async_callback(behind.drain)
    stack.callback(asyncio.create_task(behind.run(), name="kept answers").cancel)
    same = None
    if neighbours is not None:
        same = SameMeaning(
            neighbours,
            answers,
            meaning,
            metrics,
            least_similarity=settings.cache_similarity,
            deadline_seconds=settings.cache_deadline_seconds,
        )
    cached = CachedRouter(
        router,
        holder,
        Levels(memory, answers, same, behind),
        usage,
        metrics,
        ttl_seconds=ttl,
        clocks=Clocks(time.time, time.monotonic),
    )
    servicer = CacheServicer(CacheOperations(memory, record, meaning, metrics))
    add = partial(add_CacheServiceServicer_to_server, servicer)
    return Caching(cached, [Service(SERVICE_NAME, add)])


async def _record(
    pool: asyncpg.Pool | None,
    memory: MemoryAnswers,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Record | None:
    if pool is None:
        return None
    store = PostgresAnswerStore(pool)
    sharing = Sharing(
        memory, store, most=settings.cache_answers, ttl_seconds=settings.cache_ttl_seconds
    )
    await sharing.begin()
    stack.callback(asyncio.create_task(sharing.run(), name="cache sharing").cancel)
    return Record(store, Part("record", time.monotonic))


async def _neighbours(
    model: grpc.aio.Channel, meaning: Part, settings: RouterSettings, stack: AsyncExitStack
) -> Neighbours | None:
    if not settings.vector_target:
        meaning.why = NO_VECTORS
        return None
    # A request does not wait for a second try.
    opening = open_channel(settings.vector_target, retry_unavailable=False)
    return VectorNeighbours(model, await stack.enter_async_context(opening))
