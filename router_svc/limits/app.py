"""Wiring of rates."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from router_svc.limits.limiter import RateLimits
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.store import PostgresRates
from router_svc.limits.window import MemoryRates
from stepwire.telemetry import meter


def own_limits() -> RateLimits:
    """Returns rates that this process keeps by itself."""
    return RateLimits(MemoryRates(time.monotonic), LimitMetrics(meter()), time.monotonic)


def wire(pool: asyncpg.Pool | None, stack: AsyncExitStack) -> RateLimits:
    """Returns rates that all instances keep together, where there is a database."""
    if pool is None:
        return own_limits()
    limits = RateLimits(PostgresRates(pool), LimitMetrics(meter()), time.monotonic)
    # What is left over goes to the others at once.
    stack.push_async_callback(partial(limits.tidy, everything=True))
    stack.callback(asyncio.create_task(limits.run(), name="rates").cancel)
    return limits
