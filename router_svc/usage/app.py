"""Wiring of the account of usage."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg

from router_svc.budgets.records import Alarm
from router_svc.settings import RouterSettings
from router_svc.usage.ledger import Ledger
from router_svc.usage.metrics import UsageMetrics
from router_svc.usage.ports import UsageStore
from router_svc.usage.servicer import SERVICE_NAME, UsageServicer
from router_svc.usage.store import PostgresUsageStore
from stepwire.api.router.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from stepwire.errors import StepwireError
from stepwire.rpc import Service
from stepwire.telemetry import meter

_logger = logging.getLogger(__name__)

PURGE_SECONDS: Final = 600.0
PURGED_AT_ONCE: Final = 10_000


def open_ledger(
    pool: asyncpg.Pool, alarmed: Callable[[Sequence[Alarm]], None], stack: AsyncExitStack
) -> Ledger:
    """Returns what writes usage down; what waits is written when the rest has ended."""
    ledger = Ledger(PostgresUsageStore(pool), UsageMetrics(meter()), alarmed)
    stack.push_async_callback(ledger.drain)
    return ledger


def wire(pool: asyncpg.Pool, *, settings: RouterSettings, stack: AsyncExitStack) -> Service:
    """Removes old usage from now on; returns what shows it."""
    store = PostgresUsageStore(pool)
    kept = timedelta(days=settings.usage_days)
    stack.callback(asyncio.create_task(_purge(store, kept), name="purge of usage").cancel)
    return Service(SERVICE_NAME, partial(add_UsageServiceServicer_to_server, UsageServicer(store)))


async def _purge(store: UsageStore, kept: timedelta) -> None:
    while True:
        try:
            while await store.purge(tries=kept, limit=PURGED_AT_ONCE) >= PURGED_AT_ONCE:
                pass
        except StepwireError as error:
            _logger.warning("old usage is removed later", extra={"why": str(error)})
        await asyncio.sleep(PURGE_SECONDS)
