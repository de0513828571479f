"""Generate through a model that model_svc itself runs: a tiny decoder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.providers.embedder import ModelServiceEmbedder
from router_svc.providers.hosted import HostedModel
from router_svc.requests.records import Message as Said
from router_svc.requests.records import Request
from router_svc.requests.records import Role as Author
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.message_pb2 import Message, Role
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub
from stepwire.rpc import open_channel
from tests.integration.model_svc.graphs import write_encoder
from tests.integration.model_svc.model_service import RunningService, running_service
from tests.integration.model_svc.tiny_decoder import CONTEXT, PlainLoop, write_decoder
from tests.integration.router_svc.running_router import ask, report, running_router
from tests.unit.router_svc.router_builders import a_request

pytest.importorskip("onnxruntime_genai", reason="the extra `generate` is not installed")

WRITER = {
    "name": "writer",
    "provider": {"kind": "hosted", "model": "decoder"},
    "context_window": 8_000,
    "max_output_tokens": 200,
    "quality": 0.5,
    "capabilities": ["grounding"],
    "prices": [{"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_encoder(folder / "tiny" / "1")
    write_decoder(folder / "decoder" / "1")
    return folder


@pytest.fixture(scope="module")
def plain(models: Path) -> PlainLoop:
    return PlainLoop(models / "decoder" / "1")


@pytest_asyncio.fixture(scope="module")
async def service(models: Path) -> AsyncIterator[RunningService]:
    async with running_service(repository_dir=models, default_model="tiny") as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def stub(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RouterServiceAsyncStub]:
    folder = tmp_path_factory.mktemp("router")
    async with running_router(folder, WRITER, model_target=service.address) as router:
        yield router


async def test_an_answer_is_written_to_its_end(
    stub: RouterServiceAsyncStub, plain: PlainLoop
) -> None:
    answer = await stub.Generate(ask("hi"))
    prompt = "user:hi assistant:"
    text, tokens, _ = plain.write(prompt, 200)
    assert (answer.model, answer.text) == ("writer", text)
    assert answer.usage.input_tokens == len(prompt)
    assert answer.usage.output_tokens == tokens


async def test_a_conversation_is_streamed_with_its_documents_and_settings(
    stub: RouterServiceAsyncStub, plain: PlainLoop
) -> None:
    said = [(Role.ROLE_SYSTEM, "short"), (Role.ROLE_USER, "a"), (Role.ROLE_ASSISTANT, "b")]
    messages = [Message(role=role, content=text) for role, text in said]
    request = pb.GenerateRequest(
        messages=[*messages, Message(content="c")],
        documents=[report()],
        max_output_tokens=20,
        temperature=0,
    )
    pieces = [
        piece async for piece in stub.StreamGenerate(pb.StreamGenerateRequest(request=request))
    ]
    assert len(pieces) > 3
    end = pieces[-1].end
    text = "".join(piece.text for piece in pieces)
    assert end.usage.output_tokens <= 20
    assert text.isalpha()
    prompt = "system:short user:a assistant:b user:c assistant:"
    # The documents stand in front, as a message of the system.
    assert end.usage.input_tokens > len(prompt) + len(report().text)
    assert text != plain.write(prompt, 20)[0]


async def test_what_does_not_fit_is_another_models_matter(service: RunningService) -> None:
    async with open_channel(service.address) as channel:
        model = HostedModel(channel, "decoder")
        for request, kind in (
            (a_request("x" * CONTEXT), FailureKind.CONTEXT_TOO_LONG),
            (a_request("hi", stop=("x" * 101,)), FailureKind.UNFIT),
            (Request(messages=(Said(Author.TOOL, "42"),)), FailureKind.UNFIT),
        ):
            with pytest.raises(ProviderFailure) as raised:
                await model.complete(request, max_output_tokens=5)
            assert raised.value.kind is kind
        with pytest.raises(ProviderFailure) as raised:
            await HostedModel(channel, "gone").complete(a_request("hi"), max_output_tokens=5)
        assert raised.value.kind is FailureKind.MISCONFIGURED


async def test_a_model_that_writes_is_none_that_embeds(service: RunningService) -> None:
    async with open_channel(service.address) as channel:
        assert [model.name for model in await ModelServiceEmbedder(channel).models()] == ["tiny"]
