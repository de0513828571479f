"""Wiring of the schedules."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import asyncpg

from executor_svc.engine.ports import EventBus
from executor_svc.schedules.firing import Firing
from executor_svc.schedules.loop import FiringLoop
from executor_svc.schedules.metrics import ScheduleMetrics
from executor_svc.schedules.ports import Starter
from executor_svc.schedules.registry import Schedules
from executor_svc.schedules.servicer import ScheduleServicer
from executor_svc.schedules.store import PostgresScheduleStore
from executor_svc.settings import ExecutorSettings
from stepwire import rpc
from stepwire.api.executor.v1.schedule_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.schedule_service_pb2_grpc import (
    add_ScheduleServiceServicer_to_server,
)

SERVICE = DESCRIPTOR.services_by_name["ScheduleService"].full_name


async def wire(
    pool: asyncpg.Pool,
    starter: Starter,
    bus: EventBus,
    *,
    settings: ExecutorSettings,
    stack: AsyncExitStack,
) -> rpc.Service:
    """Let schedules fire from now on, and return the service that keeps them."""
    store = PostgresScheduleStore(pool)
    firing = Firing(starter, ScheduleMetrics())
    loop = FiringLoop(
        store,
        firing,
        every_seconds=settings.schedule_sweep_seconds,
        batch=settings.schedule_batch,
    )
    await bus.subscribe(loop.observe)
    schedules = Schedules(
        store,
        starter,
        firing,
        changed=loop.look,
        limit=settings.max_schedules,
        min_interval=timedelta(seconds=settings.schedule_min_interval_seconds),
    )
    running = asyncio.create_task(loop.run(), name="schedules")
    stack.callback(running.cancel)
    add = partial(add_ScheduleServiceServicer_to_server, ScheduleServicer(schedules))

    async def drain() -> None:
        await loop.drain()
        await schedules.drain()

    return rpc.Service(name=SERVICE, add=add, drain=drain)
