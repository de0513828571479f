"""Wires the router: settings in, services out."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from router_svc.breakers import app as breakers_app
from router_svc.catalogue import app as catalogue_app
from router_svc.decide import app as decide_app
from router_svc.decide.decider import Surroundings
from router_svc.generate import app as generate_app
from router_svc.metrics import RouterMetrics
from router_svc.servicer import SERVICE_NAME, RouterServicer
from router_svc.settings import RouterSettings
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import TokenCounters
from stepwire.api.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server
from stepwire.rpc import Service, open_channel
from stepwire.telemetry import meter


async def build(
    stack: AsyncExitStack, *, settings: RouterSettings, environment: Mapping[str, str]
) -> Sequence[Service]:
    """Returns the router's services; what they hold is closed by `stack`.

    No model is called: a provider that is away is found out by the first request.

    Raises:
        StartError: The catalogue is faulty, or a key that it names is missing.
    """
    counters = TokenCounters()
    metrics = RouterMetrics(meter())
    holder = await catalogue_app.wire(settings, environment, counters, metrics=metrics, stack=stack)
    # A try is one call: whether to make another, and of which model, is decided here.
    channel = await stack.enter_async_context(
        open_channel(settings.model_target, retry_unavailable=False)
    )
    breakers = breakers_app.open_breakers(settings, metrics)
    pool = generate_app.open_pool(holder, breakers, channel, EstimatedTokens(), stack=stack)
    surroundings = Surroundings(
        availability=pool,
        meanings=decide_app.wire_meanings(channel, settings, stack),
    )
    decider = decide_app.wire(holder, counters, surroundings, settings=settings, metrics=metrics)
    router = generate_app.wire(decider, pool, counters, settings=settings, metrics=metrics)
    servicer = RouterServicer(decider, router, holder)
    return [
        Service(SERVICE_NAME, partial(add_RouterServiceServicer_to_server, servicer)),
        breakers_app.wire(None, breakers, settings=settings, stack=stack),
    ]
