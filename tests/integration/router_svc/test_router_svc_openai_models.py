"""What OpenAI's own client is told of models, through gateway and router, by a real model_svc."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from gateway.testing import free_ports, running_envoy
from router_svc.providers import embedder
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually
from tests.integration.model_svc.graphs import write_encoder, write_scale
from tests.integration.model_svc.model_service import RunningService, running_service
from tests.integration.router_svc.running_router import QUOTES, chat_model, running_router
from tests.integration.tcp_gate import Gate, gate_to

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
NOWHERE = "http://127.0.0.1:1/v1"


@dataclass(frozen=True)
class Shop:
    """A client, what it is a client of, and the way between router and model service."""

    client: openai.AsyncOpenAI
    models: RunningService
    gate: Gate

    async def listed(self) -> dict[str, Any]:
        """Returns what is told of each model in the list, by id."""
        page = await self.client.models.list()
        assert len({model.id for model in page.data}) == len(page.data)
        return {model.id: _extra(model) for model in page.data}

    async def embeds(self, model: str) -> bool:
        try:
            await self.client.embeddings.create(model=model, input="red")
        except (openai.NotFoundError, openai.BadRequestError):
            return False
        return True


def _extra(model: Any) -> Any:
    return model.model_extra["stepwire"]


@pytest_asyncio.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    async with running_shop(folder) as running:
        yield running


@asynccontextmanager
async def running_shop(folder: Path) -> AsyncIterator[Shop]:
    models = folder / "models"
    for name in ("tiny", "other", "both"):
        write_encoder(models / name / "1")
    (models / "other" / "1" / "config.json").write_text('{"matryoshka_dimensions": [2, 4]}')
    write_scale(models / "scale" / "1", 2)
    port, http_port = free_ports(2)
    async with AsyncExitStack() as stack:
        running = running_service(repository_dir=models, default_model="tiny")
        service = await stack.enter_async_context(running)
        gate = await stack.enter_async_context(gate_to(f"tcp://{service.address}"))
        # A model of the catalogue may have the name of one that embeds.
        catalogue = (QUOTES, chat_model("both", NOWHERE))
        await stack.enter_async_context(
            running_router(
                folder,
                *catalogue,
                model_target=gate.url.removeprefix("tcp://@"),
                port=port,
                http_port=http_port,
            )
        )
        envoy = await stack.enter_async_context(
            running_envoy(
                folder,
                router_target=f"127.0.0.1:{port}",
                router_http_target=f"127.0.0.1:{http_port}",
                model_target=service.address,
            )
        )
        url = f"http://{envoy.target}/v1"
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=30)
        yield Shop(await stack.enter_async_context(client), service, gate)


async def test_models_are_listed_with_what_they_are_for(shop: Shop) -> None:
    listed = await shop.listed()
    assert {name: told["endpoints"] for name, told in listed.items()} == {
        "auto": [CHAT, EMBEDDINGS],
        "quotes": [CHAT],
        "both": [CHAT, EMBEDDINGS],
        "other": [EMBEDDINGS],
        "tiny": [EMBEDDINGS],
    }
    assert listed["tiny"]["embedding"] == {
        "default": True,
        "dimension": 4,
        "matryoshka_dimensions": [],
        "max_tokens": 512,
    }
    assert listed["other"]["embedding"]["matryoshka_dimensions"] == [2, 4]
    assert listed["both"]["tier"] == "balanced"
    for name, told in listed.items():
        one = await shop.client.models.retrieve(name)
        assert (one.id, one.object, one.created, _extra(one)) == (name, "model", 0, told)
    assert (await shop.client.models.retrieve("both")).owned_by == "openai"
    assert (await shop.client.models.retrieve("tiny")).owned_by == "stepwire"
    for absent in ("none", "scale", "tiny-int8"):
        with pytest.raises(openai.NotFoundError) as caught:
            await shop.client.models.retrieve(absent)
        assert caught.value.code == "model_not_found"


async def test_what_is_listed_for_embeddings_is_what_is_embedded(shop: Shop) -> None:
    async def both_agree() -> set[str]:
        listed = await shop.listed()
        named = {name for name, told in listed.items() if EMBEDDINGS in told["endpoints"]}
        known = {*listed, *(name for name, _ in await shop.models.index()), "none"}
        assert named == {name for name in known if await shop.embeds(name)}
        return named

    assert await both_agree() == {"auto", "both", "other", "tiny"}
    await shop.models.unload("both")
    await shop.models.unload("tiny")
    try:
        assert await both_agree() == {"other"}
    finally:
        await shop.models.load("both")
        await shop.models.load("tiny")
    assert await both_agree() == {"auto", "both", "other", "tiny"}


async def test_without_the_model_service_the_rest_is_listed_and_the_gap_is_told(
    shop: Shop,
) -> None:
    await shop.gate.shut()
    try:
        page = await shop.client.models.list()
        assert {model.id: _extra(model)["endpoints"] for model in page.data} == {
            name: [CHAT] for name in ("auto", "quotes", "both")
        }
        told = _extra(page)["unavailable"][EMBEDDINGS]
        assert told["code"] == "dependency_unavailable"
        assert "which models embed" in told["message"]
        assert (await shop.client.models.retrieve("quotes")).id == "quotes"
        # It may be one that embeds: nobody knows that it is none.
        with pytest.raises(openai.InternalServerError) as caught:
            await shop.client.models.retrieve("other")
        assert (caught.value.status_code, caught.value.code) == (503, "dependency_unavailable")
    finally:
        await shop.gate.open()

    async def whole() -> bool:
        return "stepwire" not in ((await shop.client.models.list()).model_extra or {})

    await eventually(whole)


async def test_the_models_are_also_listed_by_the_services_own_path(shop: Shop) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{str(shop.client.base_url).removesuffix('/')}/text-models")
    names = [model["name"] for model in answer.json()["models"] if model["ready"]]
    assert (answer.status_code, names) == (200, ["both", "other", "tiny"])


async def test_a_model_service_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedder, "LIST_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    async with (
        await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as silent,
        open_channel("{}:{}".format(*silent.sockets[0].getsockname())) as channel,
    ):
        with pytest.raises(StepwireError, match="DEADLINE_EXCEEDED") as caught:
            await embedder.ModelServiceEmbedder(channel).models()
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
