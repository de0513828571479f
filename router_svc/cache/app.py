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
from router_svc.cache.backlog import Backlog
from router_svc.cache.behind import Behind
from router_svc.cache.between import Between
from router_svc.cache.client import VectorNeighbours
from router_svc.cache.front import CachedRouter, Clocks, Levels
from router_svc.cache.invalidations import Invalidations
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
from router_svc.settings import ENV_PREFIX, RouterSettings
from stepwire.api.router.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from stepwire.lifecycle import StartError
from stepwire.rpc import Service, open_channel
from stepwire.telemetry import meter

NO_VECTORS = "the settings name no vector service"
_REDIS_URL = f"{ENV_PREFIX}CACHE_REDIS_URL"


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
        StartError: Redis is wanted and cannot be had as the settings are. Whether it answers
            is found out by the first request.
    """
    ttl = settings.cache_ttl_seconds
    metrics = CacheMetrics(meter())
    known = Invalidations(time.monotonic)
    memory = MemoryAnswers(settings.cache_memory_bytes, known, ttl_seconds=ttl, clock=time.time)
    metrics.watch_memory(lambda: memory.size_bytes)
    record = await _record(pool, memory, settings, stack)
    between = await _between(record, known, metrics, settings, stack)
    answers = Answers(
        memory, between, record, metrics, deadline_seconds=settings.cache_deadline_seconds
    )
    meaning = Part("meaning", time.monotonic)
    neighbours = await _neighbours(model, meaning, settings, stack)
    behind = Behind(record, neighbours, meaning, metrics, ttl_seconds=ttl)
    _write(behind.backlog, "kept answers", stack)
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
    servicer = CacheServicer(CacheOperations(memory, record, between, meaning, metrics))
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


async def _between(
    record: Record | None,
    known: Invalidations,
    metrics: CacheMetrics,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Between | None:
    url = settings.cache_redis_url.get_secret_value()
    if not url:
        return None
    if record is None:
        raise StartError(
            f"{_REDIS_URL} is of use only with {ENV_PREFIX}POSTGRES_URL: Redis does not know "
            "which answers were invalidated"
        )
    try:
        from router_svc.cache.redis_store import open_redis  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StartError(
            f"{_REDIS_URL} needs the package redis: pip install 'stepwire[redis]'"
        ) from error
    try:
        store = await stack.enter_async_context(open_redis(url))
    except ValueError:
        # What it says may repeat a part of the password.
        raise StartError(f"{_REDIS_URL} is no URL of a Redis") from None
    between = Between(
        store,
        known,
        metrics,
        deadline_seconds=settings.cache_redis_deadline_seconds,
        ttl_seconds=settings.cache_ttl_seconds,
        clock=time.monotonic,
    )
    _write(between.backlog, "answers to Redis", stack)
    return between


def _write(backlog: Backlog, name: str, stack: AsyncExitStack) -> None:
    """Writes from now on, and what is left of the last moments when the rest has ended."""
    stack.push_async_callback(backlog.drain)
    stack.callback(asyncio.create_task(backlog.run(), name=name).cancel)


async def _neighbours(
    model: grpc.aio.Channel, meaning: Part, settings: RouterSettings, stack: AsyncExitStack
) -> Neighbours | None:
    if not settings.vector_target:
        meaning.why = NO_VECTORS
        return None
    # A request does not wait for a second try.
    opening = open_channel(settings.vector_target, retry_unavailable=False)
    return VectorNeighbours(model, await stack.enter_async_context(opening))
