"""Wires the router: settings in, services out."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import grpc.aio

from router_svc.breakers.cooldowns import Cooldowns
from router_svc.catalogue.configured import find_keys, load_catalogue, must_ask
from router_svc.catalogue.file import CatalogueError
from router_svc.catalogue.models import Catalogue, Model, OpenAIProvider
from router_svc.generate.attempts import Attempts
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Provider, TokenCounter
from router_svc.metrics import RouterMetrics
from router_svc.providers.discovery import only_model
from router_svc.providers.extractive import ExtractiveModel
from router_svc.providers.openai import OpenAIModel
from router_svc.servicer import SERVICE_NAME, RouterServicer
from router_svc.settings import RouterSettings
from router_svc.tokens.estimate import EstimatedTokens
from stepwire.api.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server
from stepwire.lifecycle import StartError
from stepwire.rpc import Service, open_channel
from stepwire.telemetry import meter


async def build(
    stack: AsyncExitStack, *, settings: RouterSettings, environment: Mapping[str, str]
) -> Sequence[Service]:
    """Returns the router's services; what they hold is closed by `stack`.

    No model is called: a provider that is away is found out by the first request. Only
    an endpoint whose model is not named in the settings is asked for it.

    Raises:
        StartError: The catalogue is faulty, or a key that it names is missing.
    """
    try:
        if must_ask(settings):
            settings = settings.model_copy(update={"openai_model": await only_model(settings)})
        catalogue = load_catalogue(settings)
        keys = find_keys(catalogue, settings, environment)
    except CatalogueError as error:
        raise StartError(str(error)) from error
    counter = EstimatedTokens()
    metrics = RouterMetrics(meter())
    # A try is one call: whether to make another, and of which model, is decided here.
    channel = await stack.enter_async_context(
        open_channel(settings.model_target, retry_unavailable=False)
    )
    attempts = Attempts(
        catalogue=catalogue,
        providers=_providers(stack, catalogue, keys, channel, counter),
        cooldowns=Cooldowns(time.monotonic),
        metrics=metrics,
        clock=time.monotonic,
    )
    router = Router(catalogue=catalogue, attempts=attempts, counter=counter, metrics=metrics)
    servicer = RouterServicer(router)
    return [Service(SERVICE_NAME, partial(add_RouterServiceServicer_to_server, servicer))]


def _providers(
    stack: AsyncExitStack,
    catalogue: Catalogue,
    keys: Mapping[str, str],
    channel: grpc.aio.Channel,
    counter: TokenCounter,
) -> dict[str, Provider]:
    def open_provider(model: Model) -> Provider:
        if isinstance(model.provider, OpenAIProvider):
            opened = OpenAIModel(
                model.provider,
                api_key=keys.get(model.name),
                timeout_seconds=model.timeout_seconds,
            )
            stack.push_async_callback(opened.close)
            return opened
        return ExtractiveModel(
            channel, embedding_model=model.provider.embedding_model, counter=counter
        )

    return {model.name: open_provider(model) for model in catalogue.models}
