"""The router without a server around it, for what a server would hide."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from opentelemetry.metrics import Meter

from router_svc.breakers.cooldowns import Cooldowns
from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.catalogue.models import Catalogue, OpenAIProvider
from router_svc.decide.choice import Policy
from router_svc.decide.decider import Decider, Surroundings
from router_svc.generate.attempts import Attempts
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Provider
from router_svc.metrics import RouterMetrics
from router_svc.providers.openai import OpenAIModel
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import TokenCounters


class _Nowhere:
    def read(self) -> Snapshot:
        raise AssertionError("is read once only")


@asynccontextmanager
async def assembled_router(*models: dict[str, Any], meter: Meter) -> AsyncIterator[Router]:
    """Holds models of chat endpoints only."""
    catalogue = Catalogue.model_validate({"models": models})
    metrics = RouterMetrics(meter)
    async with AsyncExitStack() as stack:
        providers: dict[str, Provider] = {}
        for model in catalogue.models:
            assert isinstance(model.provider, OpenAIProvider)
            opened = OpenAIModel(model.provider, api_key="key", timeout_seconds=5)
            stack.push_async_callback(opened.close)
            providers[model.name] = opened
        attempts = Attempts(
            catalogue=catalogue,
            providers=providers,
            cooldowns=Cooldowns(time.monotonic),
            metrics=metrics,
            clock=time.monotonic,
        )
        snapshot = Snapshot(catalogue, {}, "v")
        decider = Decider(
            CatalogueHolder(_Nowhere(), snapshot, noticed=metrics.catalogue_read),
            TokenCounters(),
            Surroundings(availability=attempts),
            metrics=metrics,
            policy=Policy(),
        )
        yield Router(decider=decider, attempts=attempts, counter=EstimatedTokens(), metrics=metrics)
