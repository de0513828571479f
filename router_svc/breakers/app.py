"""Wiring of the breakers."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import asyncpg

from router_svc.breakers.board import Breakers
from router_svc.breakers.operating import BreakerOperations
from router_svc.breakers.records import BreakerRules
from router_svc.breakers.servicer import SERVICE_NAME, BreakerServicer
from router_svc.breakers.sharing import Sharing
from router_svc.breakers.store import PostgresBreakerStore
from router_svc.metrics import RouterMetrics
from router_svc.settings import RouterSettings
from stepwire.api.router.v1.breaker_service_pb2_grpc import add_BreakerServiceServicer_to_server
from stepwire.rpc import Service


def open_breakers(settings: RouterSettings, metrics: RouterMetrics) -> Breakers:
    """Returns the breakers of this process, each closed."""
    breakers = Breakers(
        BreakerRules(
            failures=settings.breaker_failures,
            credit_rest=timedelta(seconds=settings.breaker_credit_seconds),
        ),
        time.monotonic,
    )
    breakers.subscribe(
        lambda breaker, by_hand: metrics.breaker_changed(  # noqa: ARG005  (it counts alike)
            str(breaker.key), breaker.state(time.monotonic()).value
        )
    )
    metrics.watch_breakers(
        lambda: {str(breaker.key): breaker.opening is not None for breaker in breakers.all()}
    )
    return breakers


def wire(
    pool: asyncpg.Pool | None,
    breakers: Breakers,
    *,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Service:
    """Shares the breakers from now on, if there is a database; returns what shows them."""
    if pool is not None:
        sharing = Sharing(
            breakers,
            PostgresBreakerStore(pool),
            every_seconds=settings.breaker_share_seconds,
            clock=time.monotonic,
        )
        running = asyncio.create_task(sharing.run(), name="breakers")
        stack.callback(running.cancel)
    servicer = BreakerServicer(BreakerOperations(breakers, time.monotonic))
    return Service(SERVICE_NAME, partial(add_BreakerServiceServicer_to_server, servicer))
