"""Wiring of the catalogue."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from router_svc.catalogue.configured import ConfiguredSource, must_ask, warn_of_free_model
from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.holder import CatalogueHolder
from router_svc.catalogue.watch import watch
from router_svc.metrics import RouterMetrics
from router_svc.providers.discovery import only_model
from router_svc.settings import RouterSettings
from router_svc.tokens.families import TokenCounters
from stepwire.lifecycle import StartError


async def wire(
    settings: RouterSettings,
    environment: Mapping[str, str],
    counters: TokenCounters,
    *,
    metrics: RouterMetrics,
    stack: AsyncExitStack,
) -> CatalogueHolder:
    """Reads the catalogue, and keeps it up to date from now on.

    Only an endpoint whose model is not named in the settings is asked for it.

    Raises:
        StartError: The catalogue is faulty, or a key that it names is missing.
    """
    try:
        if must_ask(settings):
            settings = settings.model_copy(update={"openai_model": await only_model(settings)})
        warn_of_free_model(settings)
        source = ConfiguredSource(settings, environment, counters.of)
        snapshot = await asyncio.to_thread(source.read)
    except CatalogueError as error:
        raise StartError(str(error)) from error
    holder = CatalogueHolder(source, snapshot, noticed=metrics.catalogue_read)
    if settings.catalogue_path is not None and settings.catalogue_reload_seconds > 0:
        watching = asyncio.create_task(
            watch(holder, every_seconds=settings.catalogue_reload_seconds), name="catalogue"
        )
        stack.callback(watching.cancel)
    return holder
