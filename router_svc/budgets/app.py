"""Wiring of budgets and usage."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import asyncpg

from router_svc.budgets.keeper import BudgetKeeper
from router_svc.budgets.knowledge import Knowledge
from router_svc.budgets.metrics import BudgetMetrics
from router_svc.budgets.registry import BudgetRegistry
from router_svc.budgets.servicer import SERVICE_NAME, BudgetServicer
from router_svc.budgets.store import PostgresBudgetStore, PostgresVault
from router_svc.budgets.watch import BudgetWatch
from router_svc.decide.ports import Allowance, Unlimited
from router_svc.generate.nothing import NoBudgets, NoUsage
from router_svc.generate.ports import Budgets, UsageRecorder
from router_svc.settings import RouterSettings
from router_svc.usage import app as usage_app
from stepwire.api.router.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from stepwire.rpc import Service
from stepwire.telemetry import meter


@dataclass(frozen=True, slots=True)
class Budgeting:
    """What budgets give to the rest; by themselves, without a record, nothing.

    Attributes:
        budgets: Hold money before it is spent, and write down what was used.
        allowance: Knows what is left, for decisions.
        usage: Writes down what was used without a call.
        services: What shows and changes them.
    """

    budgets: Budgets = field(default_factory=NoBudgets)
    allowance: Allowance = field(default_factory=Unlimited)
    usage: UsageRecorder = field(default_factory=NoUsage)
    services: Sequence[Service] = ()


async def wire(pool: asyncpg.Pool, *, settings: RouterSettings, stack: AsyncExitStack) -> Budgeting:
    """Lets budgets hold, and usage be written down, from now on.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    store, vault = PostgresBudgetStore(pool), PostgresVault(pool)
    knowledge = Knowledge(time.monotonic)
    metrics = BudgetMetrics(meter(), knowledge.unsplit)
    watch = BudgetWatch(
        store,
        vault,
        knowledge,
        metrics,
        lease=timedelta(seconds=settings.budget_lease_seconds),
    )
    await watch.begin()
    # The last one to go: what was held has been settled by then.
    stack.push_async_callback(watch.end)
    ledger = usage_app.open_ledger(pool, watch.alarmed, stack)
    stack.callback(asyncio.create_task(watch.run(), name="budgets").cancel)
    keeper = BudgetKeeper(vault, ledger, knowledge, metrics, session_id=watch.session_id)
    registry = BudgetRegistry(store, watch.learn, limit=settings.max_budgets)
    add = partial(add_BudgetServiceServicer_to_server, BudgetServicer(registry))
    return Budgeting(
        budgets=keeper,
        allowance=knowledge,
        usage=ledger,
        services=[
            Service(SERVICE_NAME, add),
            usage_app.wire(pool, settings=settings, stack=stack),
        ],
    )
