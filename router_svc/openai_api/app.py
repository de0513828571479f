"""Wiring of the OpenAI-compatible API."""

from contextlib import AsyncExitStack
from dataclasses import replace

import grpc.aio

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.generate.ports import Answering
from router_svc.openai_api.dialect import OpenAIDialect
from router_svc.openai_api.handlers import Handlers
from router_svc.providers.embedder import ModelServiceEmbedder
from router_svc.settings import ENV_PREFIX, RouterSettings
from stepwire.http import HttpApp, HttpServer
from stepwire.rpc import Service


async def wire(
    service: Service,
    router: Answering,
    holder: CatalogueHolder,
    channel: grpc.aio.Channel,
    *,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Service:
    """Returns `service`, with the API served over HTTP as long as it is served over gRPC.

    Raises:
        StartError: The port is taken.
    """
    handlers = Handlers(router, holder, ModelServiceEmbedder(channel))
    app = HttpApp(
        handlers.routes(), OpenAIDialect(), max_body_bytes=settings.http_max_request_bytes
    )
    server = await stack.enter_async_context(
        HttpServer(
            app,
            host=settings.host,
            port=settings.http_port,
            port_variable=f"{ENV_PREFIX}HTTP_PORT",
            drain_seconds=settings.drain_seconds,
        )
    )

    async def drain() -> None:
        app.detach()
        server.stop()

    return replace(service, attach=app.attach, retire=app.retire, drain=drain)
