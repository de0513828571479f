"""Wires the router: settings in, services out."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from router_svc.breakers import app as breakers_app
from router_svc.budgets import app as budgets_app
from router_svc.budgets.app import Budgeting
from router_svc.cache import app as cache_app
from router_svc.catalogue import app as catalogue_app
from router_svc.decide import app as decide_app
from router_svc.decide.decider import Surroundings
from router_svc.generate import app as generate_app
from router_svc.learning import app as learning_app
from router_svc.learning.app import Learning
from router_svc.limits import app as limits_app
from router_svc.limits.availability import LimitedAvailability
from router_svc.metrics import RouterMetrics
from router_svc.openai_api import app as openai_app
from router_svc.servicer import SERVICE_NAME, RouterServicer
from router_svc.settings import RouterSettings
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import TokenCounters
from stepwire.api.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server
from stepwire.db import migrate, open_pool
from stepwire.rpc import Service, open_channel
from stepwire.telemetry import meter

_logger = logging.getLogger(__name__)


async def build(
    stack: AsyncExitStack, *, settings: RouterSettings, environment: Mapping[str, str]
) -> Sequence[Service]:
    """Returns the router's services; what they hold is closed by `stack`.

    No model is called: a provider that is away is found out by the first request.

    Raises:
        StartError: The catalogue is faulty, or a key that it names is missing.
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    counters = TokenCounters()
    metrics = RouterMetrics(meter())
    holder = await catalogue_app.wire(settings, environment, counters, metrics=metrics, stack=stack)
    # A try is one call: whether to make another, and of which model, is decided here.
    channel = await stack.enter_async_context(
        open_channel(settings.model_target, retry_unavailable=False)
    )
    database = await _open_database(settings, stack)
    learning, budgeting = Learning(), Budgeting()
    if database is not None:
        budgeting = await budgets_app.wire(database, settings=settings, stack=stack)
        learning = await learning_app.wire(database, holder, settings=settings, stack=stack)
    breakers = breakers_app.open_breakers(settings, metrics)
    pool = generate_app.open_pool(holder, breakers, channel, EstimatedTokens(), stack=stack)
    limits = limits_app.wire(database, holder, settings=settings, stack=stack)
    surroundings = Surroundings(
        availability=LimitedAvailability(pool, limits),
        allowance=budgeting.allowance,
        meanings=decide_app.wire_meanings(channel, settings, stack),
        predictor=learning.predictor,
        journal=learning.journal,
    )
    decider = decide_app.wire(holder, counters, surroundings, settings=settings, metrics=metrics)
    joints = generate_app.Joints(
        budgets=budgeting.budgets, limits=limits, observer=learning.journal
    )
    router = generate_app.wire(decider, pool, counters, joints, settings=settings, metrics=metrics)
    caching = await cache_app.wire(
        router, holder, database, channel, usage=budgeting.usage, settings=settings, stack=stack
    )
    servicer = RouterServicer(decider, caching.router, holder, learning.reports)
    service = Service(SERVICE_NAME, partial(add_RouterServiceServicer_to_server, servicer))
    return [
        await openai_app.wire(
            service, caching.router, holder, channel, settings=settings, stack=stack
        ),
        *learning.services,
        *budgeting.services,
        *caching.services,
        breakers_app.wire(database, breakers, settings=settings, stack=stack),
    ]


async def _open_database(settings: RouterSettings, stack: AsyncExitStack) -> asyncpg.Pool | None:
    """Opens the database of the settings and brings its tables up to date; None without one."""
    url = settings.postgres_url.get_secret_value()
    if not url:
        _logger.warning("there is no database: nothing is remembered beyond this process")
        return None
    pool = await stack.enter_async_context(
        open_pool(
            url,
            application_name="stepwire router",
            max_size=settings.postgres_max_connections,
            metrics_name="router",
        )
    )
    await migrate(pool, package="router_svc", schema="router")
    return pool
