"""Wiring of limits."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.limits.limiter import RateLimits
from router_svc.limits.limits import ModelLimits
from router_svc.limits.metrics import LimitMetrics, SlotMetrics
from router_svc.limits.sharing import SharedSlots
from router_svc.limits.store import SLOTS_CHANNEL, PostgresRates, PostgresSlots
from router_svc.limits.window import MemoryRates
from router_svc.settings import RouterSettings
from stepwire.db.notices import Notices
from stepwire.telemetry import meter


def own_limits() -> ModelLimits:
    """Returns limits that this process keeps by itself."""
    rates = RateLimits(MemoryRates(time.monotonic), LimitMetrics(meter()), time.monotonic)
    return ModelLimits(rates)


def wire(
    pool: asyncpg.Pool | None,
    holder: CatalogueHolder,
    *,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> ModelLimits:
    """Returns limits that all instances keep together, where there is a database."""
    if pool is None:
        return own_limits()
    metrics = LimitMetrics(meter())
    rates = RateLimits(PostgresRates(pool), metrics, time.monotonic)
    slots = SharedSlots(
        PostgresSlots(pool), metrics, _boot_seconds, lease_seconds=settings.slot_lease_seconds
    )
    SlotMetrics(meter(), slots.standing)
    holder.subscribe(slots.use)
    notices = Notices(settings.postgres_url.get_secret_value(), SLOTS_CHANNEL, slots.told)
    # What is left over goes to the others at once.
    stack.push_async_callback(partial(rates.tidy, everything=True))
    stack.push_async_callback(slots.close)
    for name, running in (
        ("rates", rates.run()),
        ("slots", slots.run()),
        ("slots of the dead", slots.watch()),
        ("notices of slots", notices.run()),
    ):
        stack.callback(asyncio.create_task(running, name=name).cancel)
    return ModelLimits(rates, slots)


def _boot_seconds() -> float:
    """Returns a monotonic time that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
