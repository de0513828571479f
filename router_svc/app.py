"""Wires the router: settings in, services out."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import grpc.aio

from router_svc.breakers.cooldowns import Cooldowns
from router_svc.catalogue import app as catalogue_app
from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import Model, OpenAIProvider
from router_svc.decide import app as decide_app
from router_svc.decide.decider import Surroundings
from router_svc.generate.attempts import Attempts
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Provider
from router_svc.metrics import RouterMetrics
from router_svc.providers.extractive import ExtractiveModel
from router_svc.providers.openai import OpenAIModel
from router_svc.servicer import SERVICE_NAME, RouterServicer
from router_svc.settings import RouterSettings
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import TokenCounters
from router_svc.tokens.ports import TokenCounter
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
    counters, estimate = TokenCounters(), EstimatedTokens()
    metrics = RouterMetrics(meter())
    holder = await catalogue_app.wire(settings, environment, counters, metrics=metrics, stack=stack)
    # A try is one call: whether to make another, and of which model, is decided here.
    channel = await stack.enter_async_context(
        open_channel(settings.model_target, retry_unavailable=False)
    )
    attempts = Attempts(
        catalogue=holder.catalogue,
        providers=_providers(stack, holder.current, channel, estimate),
        cooldowns=Cooldowns(time.monotonic),
        metrics=metrics,
        clock=time.monotonic,
    )
    surroundings = Surroundings(
        availability=attempts,
        meanings=decide_app.wire_meanings(channel, settings, stack),
    )
    decider = decide_app.wire(holder, counters, surroundings, settings=settings, metrics=metrics)
    router = Router(decider=decider, attempts=attempts, counter=estimate, metrics=metrics)
    servicer = RouterServicer(router, holder)
    return [Service(SERVICE_NAME, partial(add_RouterServiceServicer_to_server, servicer))]


def _providers(
    stack: AsyncExitStack,
    snapshot: Snapshot,
    channel: grpc.aio.Channel,
    counter: TokenCounter,
) -> dict[str, Provider]:
    def open_provider(model: Model) -> Provider:
        if isinstance(model.provider, OpenAIProvider):
            opened = OpenAIModel(
                model.provider,
                api_key=snapshot.key(model.endpoints[0]),
                timeout_seconds=model.timeout_seconds,
            )
            stack.push_async_callback(opened.close)
            return opened
        return ExtractiveModel(
            channel, embedding_model=model.provider.embedding_model, counter=counter
        )

    return {model.name: open_provider(model) for model in snapshot.catalogue.models}
