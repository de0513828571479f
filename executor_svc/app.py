"""Wiring of the executor service."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from dramatiq.brokers.stub import StubBroker

from executor_svc.announce import Announcer
from executor_svc.compile import GraphLimits
from executor_svc.creator import Creator
from executor_svc.events import EventHub
from executor_svc.messaging import AmqpEventBus, AmqpWakeups, LocalEventBus, LocalWakeups
from executor_svc.metrics import ExecutorMetrics
from executor_svc.ports import EventBus, Wakeups
from executor_svc.servicer import ExecutorServicer
from executor_svc.settings import ExecutorSettings, WorkerSettings
from executor_svc.store import PostgresSweepStore, PostgresTaskStore
from executor_svc.sweeper import Sweeper
from executor_svc.tasks import Tasks
from executor_svc.worker import Worker, start_worker
from stepwire import rpc
from stepwire.api.executor.v1.executor_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    add_ExecutorServiceServicer_to_server,
)
from stepwire.db import migrate, open_pool
from stepwire.mq import AmqpConnection, Topology, declare_queues, open_broker

SERVICE = DESCRIPTOR.services_by_name["ExecutorService"].full_name
LOCAL_DRAIN_SECONDS = 5.0


async def build(settings: ExecutorSettings, stack: AsyncExitStack) -> Sequence[rpc.Service]:
    """Open what the executor needs and return its services."""
    pool = await stack.enter_async_context(
        open_pool(
            settings.postgres_url,
            application_name="stepwire executor",
            max_size=settings.pool_size,
        )
    )
    await migrate(pool, package="executor_svc", schema="executor")
    worker = None
    if settings.rabbitmq_url:
        wakeups, bus = await _amqp(settings, stack)
    else:
        wakeups, bus, worker = await _local(settings, stack)
    announcer = Announcer(wakeups, bus)
    metrics = ExecutorMetrics()
    store = PostgresTaskStore(pool, republish_after=settings.republish_after)
    creator = Creator(
        store,
        announcer,
        metrics,
        max_batch=settings.create_batch,
        max_waiting=settings.create_waiting,
    )
    hub = EventHub()
    await bus.subscribe(hub.deliver)
    sweeper = Sweeper(
        PostgresSweepStore(
            pool, republish_after=settings.republish_after, max_losses=settings.max_losses
        ),
        wakeups,
        announcer,
        metrics,
        queues=settings.queues,
        every_seconds=settings.sweep_seconds,
    )
    await bus.subscribe(sweeper.observe)
    sweeping = asyncio.create_task(sweeper.run(), name="sweeper")
    stack.callback(sweeping.cancel)
    tasks = Tasks(
        store,
        announcer,
        hub,
        limits=GraphLimits(
            max_steps=settings.max_steps,
            max_bytes=settings.max_graph_bytes,
            queues=frozenset(settings.queues),
        ),
        recheck=timedelta(seconds=settings.recheck_seconds),
    )

    async def drain() -> None:
        # Watches never end by themselves; their clients resume elsewhere by cursor.
        hub.close()
        await creator.drain()
        if worker is not None:
            await worker.drain(timeout_seconds=LOCAL_DRAIN_SECONDS)
        await announcer.drain()

    servicer = ExecutorServicer(
        tasks,
        creator,
        max_payload_bytes=settings.max_payload_bytes,
        max_batch_tasks=settings.max_batch_tasks,
        max_wait=timedelta(seconds=settings.max_wait_seconds),
    )
    add = partial(add_ExecutorServiceServicer_to_server, servicer)
    return [rpc.Service(name=SERVICE, add=add, drain=drain)]


async def _amqp(settings: ExecutorSettings, stack: AsyncExitStack) -> tuple[Wakeups, EventBus]:
    topology = Topology(settings.mq_namespace)
    amqp = await stack.enter_async_context(
        AmqpConnection(settings.rabbitmq_url, name="stepwire executor")
    )
    await asyncio.to_thread(
        declare_queues, settings.rabbitmq_url, [topology.queue(queue) for queue in settings.queues]
    )
    wakeups = AmqpWakeups(amqp, topology, max_bundle=settings.max_bundle)
    return wakeups, AmqpEventBus(amqp, topology)


async def _local(
    settings: ExecutorSettings, stack: AsyncExitStack
) -> tuple[Wakeups, EventBus, Worker]:
    """Run one worker in this process, over Dramatiq's broker inside it."""
    topology = Topology(settings.mq_namespace)
    broker = open_broker("")
    assert isinstance(broker, StubBroker)
    wakeups = LocalWakeups(broker, topology, max_bundle=settings.max_bundle)
    bus = LocalEventBus()
    # The rest of the worker's settings come from its own variables.
    shared = {name: getattr(settings, name) for name in ("postgres_url", "queues", "mq_namespace")}
    worker = await start_worker(
        WorkerSettings(**shared), stack, broker=broker, wakeups=wakeups, bus=bus
    )
    return wakeups, bus, worker


def run(settings: ExecutorSettings) -> None:
    """Run the executor until it is told to stop."""
    rpc.run("executor", settings, partial(build, settings))
