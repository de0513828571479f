"""An executor with its worker over real Postgres and RabbitMQ, as a client sees them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from executor_svc.app import build
from executor_svc.messaging import AmqpEventBus, AmqpWakeups
from executor_svc.settings import ExecutorSettings, WorkerSettings
from executor_svc.worker import Worker, start_worker
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.mq import AmqpConnection, Topology, open_broker
from stepwire.rpc import Server, open_channel


@dataclass
class Mesh:
    """What a test works with."""

    executor: Any
    database_url: str
    start_worker: Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
async def mesh(database_url: str, rabbitmq_url: str, mq_namespace: str) -> AsyncIterator[Mesh]:
    shared: dict[str, Any] = {
        "postgres_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "mq_namespace": mq_namespace,
        "republish_after_seconds": 0.5,
    }

    @asynccontextmanager
    async def worker(**changes: Any) -> AsyncIterator[Worker]:
        settings = WorkerSettings(**{**shared, **changes})
        topology = Topology(settings.mq_namespace)
        async with AsyncExitStack() as stack:
            amqp = await stack.enter_async_context(AmqpConnection(rabbitmq_url, name="test"))
            running = await start_worker(
                settings,
                stack,
                broker=open_broker(rabbitmq_url),
                wakeups=AmqpWakeups(amqp, topology, max_bundle=settings.max_bundle),
                bus=AmqpEventBus(amqp, topology),
            )
            yield running
            await running.drain(timeout_seconds=5)

    settings = ExecutorSettings(port=0, sweep_seconds=0.1, recheck_seconds=1, **shared)
    async with AsyncExitStack() as stack:
        services = await build(settings, stack)
        server = await stack.enter_async_context(Server("executor", settings, services))
        channel = await stack.enter_async_context(open_channel(server.address))
        yield Mesh(ExecutorServiceStub(channel), database_url, worker)
