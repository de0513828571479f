"""The router without a server around it, for what a server would hide."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
from opentelemetry.metrics import Meter

from router_svc.breakers.app import open_breakers
from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.catalogue.models import Catalogue
from router_svc.decide import app as decide_app
from router_svc.decide.decider import Decider, Surroundings
from router_svc.generate import app as generate_app
from router_svc.generate.pipeline import Router
from router_svc.metrics import RouterMetrics
from router_svc.settings import RouterSettings
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import TokenCounters


class _Unchanging:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def read(self) -> Snapshot:
        return self._snapshot


@asynccontextmanager
async def assembled_router(
    *models: dict[str, Any],
    meter: Meter,
    joints: generate_app.Joints | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Decider, Router]]:
    """Holds models of chat endpoints only."""
    catalogue = Catalogue.model_validate({"models": models})
    snapshot = Snapshot(catalogue, {"CHAT_KEY": "key"}, "1")
    holder = CatalogueHolder(_Unchanging(snapshot), snapshot, noticed=lambda _: None)
    metrics, wanted, counters = RouterMetrics(meter), RouterSettings(**settings), TokenCounters()
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel("127.0.0.1:1"))
        breakers = open_breakers(wanted, metrics)
        pool = generate_app.open_pool(holder, breakers, channel, EstimatedTokens(), stack=stack)
        around = Surroundings(availability=pool)
        decider = decide_app.wire(holder, counters, around, settings=wanted, metrics=metrics)
        router = generate_app.wire(
            decider,
            pool,
            counters,
            joints or generate_app.Joints(),
            settings=wanted,
            metrics=metrics,
        )
        yield decider, router
