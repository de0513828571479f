"""Gateway, router and simulated providers, all of them real servers, for clients from outside."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import openai

from gateway.testing import free_ports, running_envoy
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.testing.fleet import EndpointPlan, Fleet, SimulatedEndpoint, running_fleet
from tests.integration.router_svc.extract_service import ExtractService, extract_service
from tests.integration.router_svc.running_router import DEAR, QUOTES, chat_model, running_router

if TYPE_CHECKING:
    from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub


@dataclass
class House:
    """What is behind the gateway, and clients in front of it."""

    fleet: Fleet
    model_service: ExtractService
    client: openai.AsyncOpenAI
    url: str
    stub: "RouterServiceAsyncStub"

    @property
    def east(self) -> SimulatedEndpoint:
        """The provider of the model that is asked first."""
        return self.fleet["east"]

    def body(self) -> Any:
        """Returns what that provider was asked last."""
        return self.east.seen[-1].body

    def tidy(self) -> None:
        """Makes it as if no test had used it before."""
        self.model_service.seen.clear()
        self.model_service.time_left.clear()
        for endpoint in self.fleet.endpoints.values():
            endpoint.reset(EndpointPlan(name=endpoint.plan.name))


@asynccontextmanager
async def running_house(folder: Path) -> AsyncIterator[House]:
    port, http_port = free_ports(2)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(running_fleet("east", "west"))
        model_service = await stack.enter_async_context(extract_service())
        models = [
            _simulated(fleet["east"], capabilities=["tools", "json", "vision"]),
            _simulated(fleet["west"], capabilities=["tools", "json"], prices=[DEAR]),
            QUOTES,
        ]
        settings: dict[str, Any] = {
            "port": port,
            "http_port": http_port,
            "http_max_request_bytes": 20_000,
            "breaker_failures": 1_000,
            "retry_longest_wait_seconds": 0.3,
        }
        await stack.enter_async_context(
            running_router(folder, *models, model_target=model_service.target, **settings)
        )
        envoy = await stack.enter_async_context(
            running_envoy(
                folder,
                router_target=f"127.0.0.1:{port}",
                router_http_target=f"127.0.0.1:{http_port}",
            )
        )
        url = f"http://{envoy.target}/v1"
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=30)
        await stack.enter_async_context(client)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(envoy.target))
        yield House(fleet, model_service, client, url, RouterServiceStub(channel))


def _simulated(of: SimulatedEndpoint, **fields: Any) -> dict[str, Any]:
    model = chat_model(of.plan.name, of.base_url, **fields)
    model["provider"]["model"] = "small"
    return model
