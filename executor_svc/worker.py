"""A worker: takes messages from RabbitMQ, runs steps, records what came of them.

It runs as a process of its own (`python -m executor_svc.worker`), or, where there is no
RabbitMQ, inside the executor's process.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import dramatiq
import httpx2

from executor_svc.actors import Actors
from executor_svc.announce import Announcer
from executor_svc.dispatch import Dispatcher
from executor_svc.lease import Lease
from executor_svc.messaging import AmqpEventBus, AmqpWakeups
from executor_svc.metrics import WorkerMetrics
from executor_svc.ports import EventBus, SessionStore, Wakeups
from executor_svc.runner import StepRunner
from executor_svc.settings import WorkerSettings
from executor_svc.slots import Slots
from executor_svc.steps.embed import EmbedKind
from executor_svc.steps.guard import GuardedTransport
from executor_svc.steps.http import HttpKind
from executor_svc.steps.kind import Kind
from executor_svc.steps.model import ModelKind
from executor_svc.steps.points import SearchKind, UpsertKind
from executor_svc.steps.python import PythonKind
from executor_svc.steps.transform import TransformKind
from executor_svc.store import PostgresSessionStore, PostgresStepStore
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.vector.v1.vector_service_pb2_grpc import VectorServiceStub
from stepwire.db import open_pool
from stepwire.lifecycle import StartError, Stopping, run_process
from stepwire.mq import AmqpConnection, Topology, open_broker
from stepwire.rpc import open_channel
from stepwire.sdk.functions import default_registry

logger = logging.getLogger(__name__)

# A step younger than this may be one whose claim is still being answered.
RECONCILE_AGE = timedelta(seconds=10)
STOP_ACTORS_SECONDS = 2.0


class Worker:
    """A worker that runs; `drain` lets it finish what it has."""

    def __init__(self, actors: Actors, dispatcher: Dispatcher, announcer: Announcer) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._announcer = announcer

    async def drain(self, *, timeout_seconds: float) -> None:
        """Take nothing new, let running attempts finish, and stop those that do not."""
        end = time.monotonic() + timeout_seconds
        await self._actors.stop(timeout_seconds=min(STOP_ACTORS_SECONDS, timeout_seconds / 2))
        await self._dispatcher.drain(max(0.0, end - time.monotonic()))
        await self._announcer.drain()


async def start_worker(
    settings: WorkerSettings,
    stack: AsyncExitStack,
    *,
    broker: dramatiq.Broker,
    wakeups: Wakeups,
    bus: EventBus,
) -> Worker:
    """Start a worker; what it opens is closed by `stack`.

    Raises:
        StartError: a module of step functions cannot be imported.
        StepwireError: Postgres cannot be reached.
    """
    try:
        default_registry.load(settings.step_modules)
    except ImportError as error:
        raise StartError(f"step_modules: {error}") from error
    # Functions that are not coroutines run in the loop's default executor.
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(settings.python_threads, thread_name_prefix="step")
    )
    name = settings.name or f"{socket.gethostname()}:{os.getpid()}"
    pool = await stack.enter_async_context(
        open_pool(
            settings.postgres_url,
            application_name=f"stepwire worker {name}",
            max_size=settings.pool_size,
        )
    )
    store = PostgresStepStore(
        pool, republish_after=settings.republish_after, max_losses=settings.max_losses
    )
    slots = Slots(settings.slots)
    announcer = Announcer(wakeups, bus)
    runner = StepRunner(
        store,
        await _kinds(settings, stack),
        max_output_bytes=settings.max_payload_bytes,
        max_items=settings.max_items,
    )

    @asynccontextmanager
    async def open_sessions() -> AsyncIterator[SessionStore]:
        url, lease_name = settings.postgres_url, f"stepwire lease {name}"
        async with open_pool(url, application_name=lease_name, max_size=1) as own:
            yield PostgresSessionStore(own)

    lease = Lease(
        open_sessions,
        worker=name,
        lease=timedelta(seconds=settings.lease_seconds),
        renew_every=timedelta(seconds=settings.renew_seconds),
        on_lost=lambda session_id: dispatcher.session_lost(session_id),  # noqa: PLW0108 - made below
    )
    metrics = WorkerMetrics(used_slots=lambda: slots.used, slots=slots.capacity)
    dispatcher = Dispatcher(
        store=store,
        runner=runner,
        announcer=announcer,
        session=lease,
        slots=slots,
        metrics=metrics,
    )
    stack.push_async_callback(lease.stop)
    await lease.start()
    await bus.subscribe_cancelled(dispatcher.cancelled)
    reconciling = asyncio.create_task(
        _reconcile(dispatcher, settings.reconcile_seconds), name="reconcile"
    )
    stack.callback(reconciling.cancel)
    actors = Actors(
        broker,
        Topology(settings.mq_namespace),
        settings.queues,
        slots=slots,
        offer=dispatcher.offer,
        decline=dispatcher.decline,
    )
    await actors.start()
    return Worker(actors, dispatcher, announcer)


async def _kinds(settings: WorkerSettings, stack: AsyncExitStack) -> Mapping[str, Kind]:
    models = await stack.enter_async_context(open_channel(settings.model_target))
    vectors = await stack.enter_async_context(open_channel(settings.vector_target))
    # The router has tried every model before it says UNAVAILABLE; the step's own retry
    # policy decides when to ask again.
    router = await stack.enter_async_context(
        open_channel(settings.router_target, retry_unavailable=False)
    )
    # The slots bound how many calls there are.
    transport: httpx2.AsyncBaseTransport = httpx2.AsyncHTTPTransport(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100)
    )
    if not settings.http_allow_private:
        # Connections are kept by address here, and names may share one: none is kept.
        transport = GuardedTransport(
            httpx2.AsyncHTTPTransport(
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            )
        )
    # The step's own timeout bounds the call.
    client = await stack.enter_async_context(
        httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
    )
    return {
        "python": PythonKind(default_registry),
        "transform": TransformKind(),
        "embed": EmbedKind(ModelServiceStub(models)),
        "upsert": UpsertKind(VectorServiceStub(vectors)),
        "search": SearchKind(VectorServiceStub(vectors)),
        "model": ModelKind(RouterServiceStub(router)),
        "http": HttpKind(client, max_response_bytes=settings.http_max_response_bytes),
    }


async def _reconcile(dispatcher: Dispatcher, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await dispatcher.reconcile(older_than=RECONCILE_AGE)
        except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
            logger.warning("reconciling failed", extra={"cause": repr(error)})


def run(settings: WorkerSettings) -> None:
    """Run a worker process until it is told to stop."""

    async def main(stack: AsyncExitStack, stopping: Stopping) -> None:
        if not settings.rabbitmq_url:
            raise StartError("rabbitmq_url is empty: a worker process needs RabbitMQ")
        topology = Topology(settings.mq_namespace)
        amqp = await stack.enter_async_context(
            AmqpConnection(settings.rabbitmq_url, name="stepwire worker")
        )
        worker = await start_worker(
            settings,
            stack,
            broker=open_broker(settings.rabbitmq_url),
            wakeups=AmqpWakeups(amqp, topology, max_bundle=settings.max_bundle),
            bus=AmqpEventBus(amqp, topology),
        )
        logger.info("worker is ready", extra={"queues": list(settings.queues)})
        await stopping.wait()
        await worker.drain(timeout_seconds=stopping.drain_seconds_left())

    run_process("worker", settings, main)


if __name__ == "__main__":
    run(WorkerSettings())
