"""Wiring of the operations of queues."""

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import asyncpg

from executor_svc.metrics import QueueMetrics
from executor_svc.queues.failures import FailedSteps
from executor_svc.queues.overview import Overview
from executor_svc.queues.ports import Retrier, TrafficStore
from executor_svc.queues.queues import Queues
from executor_svc.queues.servicer import QueueServicer
from executor_svc.queues.signals import Aim
from executor_svc.queues.store import PostgresQueueStore
from executor_svc.settings import ExecutorSettings
from stepwire import rpc
from stepwire.api.executor.v1.queue_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.queue_service_pb2_grpc import add_QueueServiceServicer_to_server

SERVICE = DESCRIPTOR.services_by_name["QueueService"].full_name

KEEP_TRAFFIC = timedelta(hours=1)
FORGET_SECONDS = 60.0
MEASURE_SECONDS = 5.0

logger = logging.getLogger(__name__)


def wire(
    pool: asyncpg.Pool, retrier: Retrier, settings: ExecutorSettings, stack: AsyncExitStack
) -> rpc.Service:
    """Return the service of queues; what it runs is stopped by `stack`."""
    store = PostgresQueueStore(pool)
    queues = Queues(
        store,
        Overview(store),
        known=settings.queues,
        aim=Aim(
            drain_seconds=settings.scaling_drain_seconds,
            utilisation=settings.scaling_utilisation,
        ),
    )
    stack.callback(asyncio.create_task(_forget(store), name="queue stats: forget").cancel)
    if settings.metrics_port:
        stack.callback(asyncio.create_task(_measure(queues), name="queue metrics").cancel)
    servicer = QueueServicer(
        queues,
        FailedSteps(store, retrier),
        store,
        max_wait=timedelta(seconds=settings.max_wait_seconds),
    )
    return rpc.Service(name=SERVICE, add=partial(add_QueueServiceServicer_to_server, servicer))


async def _forget(store: TrafficStore) -> None:
    """Delete old counts for ever; several executors that do so do no harm."""
    while True:
        await asyncio.sleep(FORGET_SECONDS)
        try:
            await store.forget_traffic(KEEP_TRAFFIC)
        except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
            logger.warning("old counts of queues were not deleted", extra={"cause": repr(error)})


async def _measure(queues: Queues) -> None:
    """Keep the gauges up to date, for ever."""
    metrics = QueueMetrics()
    while True:
        try:
            metrics.update(await queues.list())
        except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
            metrics.update([])
            logger.warning("queues were not measured", extra={"cause": repr(error)})
        await asyncio.sleep(MEASURE_SECONDS)
