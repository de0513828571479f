"""The router as it runs, from settings to gRPC, for tests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
import yaml

from router_svc.app import build
from router_svc.settings import RouterSettings
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.message_pb2 import Document, Message
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.errors import StepwireError
from stepwire.rpc import Server
from stepwire.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub

KEY = "sk-the-secret-key"
REPORT = "The weather was dry in May. The river rose by a metre in June. Nobody was hurt."
NO_MODEL_SERVICE = "127.0.0.1:1"

DEAR = {"input_usd_per_million_tokens": 50, "output_usd_per_million_tokens": 2.5}

QUOTES = {
    "name": "quotes",
    "provider": {"kind": "extractive"},
    "context_window": 60_000,
    "max_output_tokens": 500,
    "quality": 0.35,
    "capabilities": ["grounding"],
    "prices": [{"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}],
}


def chat_model(name: str, base_url: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "provider": {
            "kind": "openai",
            "base_url": base_url,
            "api_key_env": "CHAT_KEY",
            "model": f"their-{name}",
        },
        "context_window": 8_000,
        "max_output_tokens": 500,
        "quality": 0.8,
        "prices": [{"input_usd_per_million_tokens": 0.5, "output_usd_per_million_tokens": 2.5}],
        **fields,
    }


@asynccontextmanager
async def running_router(
    folder: Path, *models: dict[str, Any], **settings: Any
) -> AsyncIterator["RouterServiceAsyncStub"]:
    async with router_channel(folder, *models, **settings) as channel:
        yield RouterServiceStub(channel)


@asynccontextmanager
async def router_channel(
    folder: Path, *models: dict[str, Any], model_target: str = NO_MODEL_SERVICE, **settings: Any
) -> AsyncIterator[grpc.aio.Channel]:
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"models": list(models)}))
    given = {"port": 0, "http_port": 0, "catalogue_path": path, "model_target": model_target}
    wanted = RouterSettings(**given | settings)
    async with AsyncExitStack() as stack:
        services = await build(stack, settings=wanted, environment={"CHAT_KEY": KEY})
        server = await stack.enter_async_context(Server("router", wanted, services))
        yield await stack.enter_async_context(grpc.aio.insecure_channel(server.address))


def ask(text: str = "How much did the river rise?", **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(messages=[Message(content=text)], **fields)


def report(name: str = "report", text: str = REPORT) -> Document:
    return Document(id=name, text=text)


async def error_of(call: Any) -> StepwireError:
    """Returns the error that a call ends with, which must be one of ours."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert error is not None, f"not an error of ours: {caught.value.details()}"
    return error
