"""Wiring of subscriptions."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import asyncpg

from executor_svc.metrics import SubscriptionMetrics
from executor_svc.settings import ExecutorSettings
from executor_svc.subscriptions.deliveries import Deliveries
from executor_svc.subscriptions.interest import Interest
from executor_svc.subscriptions.ports import Outputs, Starter
from executor_svc.subscriptions.registry import Subscriptions
from executor_svc.subscriptions.servicer import SubscriptionServicer
from executor_svc.subscriptions.store import PostgresSubscriptionStore
from executor_svc.waking.relay import Handler
from stepwire import rpc
from stepwire.api.executor.v1.subscription_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.subscription_service_pb2_grpc import (
    add_SubscriptionServiceServicer_to_server,
)

SERVICE = DESCRIPTOR.services_by_name["SubscriptionService"].full_name
NOTICES = "subscription"
"""The kind of notices that `SubscriptionPart.carry_out` is for."""


@dataclass(frozen=True, slots=True)
class SubscriptionPart:
    """What the executor gets of subscriptions: a service, and a handler for the relay."""

    service: rpc.Service
    carry_out: Handler


async def open_interest(pool: asyncpg.Pool, stack: AsyncExitStack) -> Interest:
    """Begin to follow which tenants have subscriptions, until `stack` is closed."""
    interest = Interest(PostgresSubscriptionStore(pool))
    await interest.refresh()
    refreshing = asyncio.create_task(interest.run(), name="subscriptions")
    stack.callback(refreshing.cancel)
    return interest


def wire(
    pool: asyncpg.Pool,
    starter: Starter,
    outputs: Outputs,
    interest: Interest,
    *,
    settings: ExecutorSettings,
) -> SubscriptionPart:
    """Put subscriptions together. `interest` is the one that new tasks are asked of."""
    store = PostgresSubscriptionStore(pool)
    deliveries = Deliveries(
        store,
        starter,
        outputs,
        SubscriptionMetrics(),
        limit_bytes=settings.max_payload_bytes,
        at_once=settings.max_webhook_calls,
    )
    subscriptions = Subscriptions(
        store, starter, deliveries, interest, limit=settings.max_subscriptions
    )
    add = partial(add_SubscriptionServiceServicer_to_server, SubscriptionServicer(subscriptions))
    return SubscriptionPart(rpc.Service(name=SERVICE, add=add), deliveries.carry_out)
