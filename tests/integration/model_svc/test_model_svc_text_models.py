"""Which models read or write texts, held against what they answer."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest
import pytest_asyncio

from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.api.model.v1 import text_model_pb2 as pb
from stepwire.cli.models import print_hosted
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.rpc.status import from_rpc_error
from stepwire.sdk.models import Models
from tests.integration.model_svc.graphs import write_encoder, write_scale
from tests.integration.model_svc.model_service import RunningService, configure, running_service
from tests.integration.model_svc.refusals import refusal

BROKEN_READER, BROKEN_WRITER = "broken-reader", "broken-writer"


@pytest_asyncio.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    folder = tmp_path_factory.mktemp("texts")
    write_encoder(folder / "tiny" / "1")
    # What is no length, and what is longer than its vectors, is none of the choices.
    lengths = '{"matryoshka_dimensions": [4, 2, 8, 0, "2"], "max_position_embeddings": 9}'
    (folder / "tiny" / "1" / "config.json").write_text(lengths)
    for version in ("2", "10"):
        write_encoder(folder / "second" / version)
    lengths = "parameters { key: 'matryoshka_dimensions' value { string_value: '3, 1' } }"
    configure(folder / "second", f"{lengths} version_policy {{ all {{}} }}")
    write_scale(folder / "scale" / "1", 2)
    write_encoder(folder / BROKEN_READER / "1")
    (folder / BROKEN_READER / "1" / "model.onnx").write_bytes(b"not a model")
    (folder / BROKEN_WRITER / "1").mkdir(parents=True)
    (folder / BROKEN_WRITER / "1" / "genai_config.json").write_text("{}")
    async with running_service(repository_dir=folder, default_model="tiny") as running:
        yield running


async def listed(service: RunningService, *, page_size: int = 0) -> dict[str, pb.TextModel]:
    """Returns the models of all pages by name; no page is larger than asked for."""
    models: list[pb.TextModel] = []
    request = pb.ListTextModelsRequest(page_size=page_size)
    while True:
        response = await service.texts.ListTextModels(request)
        assert not page_size or len(response.models) <= page_size
        models += response.models
        request.page_token = response.next_page_token
        if not request.page_token:
            return {model.name: model for model in models}


async def test_the_command_line_tells_versions_states_and_devices(
    service: RunningService, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_channel(service.address) as channel:
        models = Models(channel, target=service.address, timeout=timedelta(seconds=60))
        found = await models.hosted()
    assert {model.name: model for model in found} == await listed(service)
    (tiny,) = (model for model in found if model.name == "tiny")
    # As one whose GPU failed.
    tiny.fallback = tiny.versions[0].reason = "CUDA failure 700"
    print_hosted(found)
    lines = [re.split(" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    rows = {(name, version): rest for name, version, *rest in lines}
    verbs = "tokenize, embed, score, classify, rerank, answer, summarize, extract"
    assert rows["tiny (default)", "1"] == [
        *("READY", "cpu (fallback)", "4", "9", verbs, "CUDA failure 700")
    ]
    # Of two versions calls use the later one.
    assert rows["second", "2"][:2] == ["READY", verbs]
    assert rows["second", "10"][:4] == ["READY", "cpu", "4", "512"]
    assert rows[BROKEN_READER, "1"][:2] == ["UNAVAILABLE", verbs]
    assert "model.onnx" in rows[BROKEN_READER, "1"][2]


async def embeds(service: RunningService, name: str) -> bool:
    request = model_pb.EmbedRequest(model=name, texts=["red"])
    try:
        return (await service.texts.Embed(request)).model == name
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        assert isinstance(refused, StepwireError)
        assert refused.reason in {Reason.MODEL_INPUT_INVALID, Reason.MODEL_NOT_READY}
        return False


def states_of(model: pb.TextModel) -> dict[str, str]:
    return {
        each.version: pb.ModelVersionState.Name(each.state).removeprefix("MODEL_VERSION_STATE_")
        for each in model.versions
    }


async def test_models_say_what_they_do_with_texts(service: RunningService) -> None:
    models = await listed(service)
    assert list(models) == [
        *(BROKEN_READER, BROKEN_WRITER, "second", "tiny", "tiny-float16", "tiny-int8")
    ]
    tiny, second = models["tiny"], models["second"]
    assert (tiny.is_default, tiny.ready, tiny.version, tiny.device) == (True, True, "1", "cpu")
    assert (tiny.dimension, list(tiny.matryoshka_dimensions), tiny.max_tokens) == (4, [2, 4], 9)
    assert len(tiny.verbs) == 8
    assert pb.TEXT_VERB_GENERATE not in tiny.verbs
    assert (second.is_default, second.version, list(second.matryoshka_dimensions)) == (
        *(False, "10"),
        [1, 3],
    )
    assert states_of(second) == {"2": "READY", "10": "READY"}


async def test_what_is_not_ready_is_told_with_its_reason(service: RunningService) -> None:
    models = await listed(service)
    reader, writer, asleep = (models[n] for n in (BROKEN_READER, BROKEN_WRITER, "tiny-int8"))
    for model in (reader, writer, asleep):
        assert (model.ready, model.version, model.dimension, model.max_tokens) == (False, "", 0, 0)
        assert all(version.reason for version in model.versions)
    assert states_of(reader) == {"1": "UNAVAILABLE"}
    assert states_of(asleep) == {"": "UNAVAILABLE"}
    assert asleep.versions[0].reason == "it was not asked for"
    assert list(writer.verbs) == [pb.TEXT_VERB_GENERATE]
    assert list(reader.verbs) == list(asleep.verbs) == list(models["tiny"].verbs)


async def test_who_is_listed_as_embedding_embeds_and_nobody_else(service: RunningService) -> None:
    async def both_agree() -> set[str]:
        embedding = {
            name
            for name, model in (await listed(service)).items()
            if model.ready and pb.TEXT_VERB_EMBED in model.verbs
        }
        known = {name for name, _ in await service.index()}
        assert embedding == {name for name in known if await embeds(service, name)}
        return embedding

    assert await both_agree() == {"tiny", "second"}
    await service.unload("second")
    assert await both_agree() == {"tiny"}
    await service.load("second")
    assert await both_agree() == {"tiny", "second"}


async def test_lists_come_in_pages(service: RunningService) -> None:
    assert list(await listed(service, page_size=2)) == list(await listed(service))
    request = pb.ListTextModelsRequest(page_size=-1)
    error = await refusal(service.texts.ListTextModels(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.metadata == {"field": "page_size"}


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("scale", grpc.StatusCode.INVALID_ARGUMENT, Reason.MODEL_INPUT_INVALID),
        ("none", grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND),
        ("tiny-int8", grpc.StatusCode.FAILED_PRECONDITION, Reason.MODEL_NOT_READY),
    ],
)
async def test_who_names_a_model_that_embeds_nothing_is_told_which_do(
    service: RunningService, name: str, code: grpc.StatusCode, reason: Reason
) -> None:
    call = service.texts.Embed(model_pb.EmbedRequest(model=name, texts=["red"]))
    error = await refusal(call, code)
    assert (error.reason, error.metadata) == (reason, {"model": name})
    assert error.message.endswith("; models that read texts: second, tiny")
