"""Texts that a tiny decoder writes, held against a plain loop over the same graph."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from model_svc.generation.model import GenerationModel
from model_svc.generation.opening import open_generator
from model_svc.generation.records import Ended, GenerateCall
from model_svc.running.plan import RunPlan
from model_svc.running.slots import ComputePool
from model_svc.sessions.devices import Device
from model_svc.sessions.errors import ModelLoadError
from model_svc.settings import ModelSettings
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.model.v1 import generate_pb2 as pb
from stepwire.api.model.v1 import model_service_pb2, text_model_pb2
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.telemetry import meter
from stepwire.testing.poll import eventually
from tests.integration.model_svc.graphs import write_encoder
from tests.integration.model_svc.model_service import (
    RunningService,
    configure,
    infer,
    running_service,
)
from tests.integration.model_svc.refusals import refusal
from tests.integration.model_svc.tiny_decoder import CONTEXT, PlainLoop, write_decoder

pytest.importorskip("onnxruntime_genai", reason="the extra `generate` is not installed")

TEXTS = 2
ENDLESS = "count 0"


@pytest_asyncio.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    folder = tmp_path_factory.mktemp("writers")
    write_encoder(folder / "tiny" / "1")
    write_decoder(folder / "writer" / "1")
    write_decoder(folder / "gpu_writer" / "1", provider="cuda")
    configure(
        folder / "gpu_writer",
        "dynamic_batching { priority_levels: 3 default_queue_policy { max_queue_size: 1 } }",
    )
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "genai_config.json").write_text("{}")
    async with running_service(
        repository_dir=folder, default_model="tiny", max_texts_written=TEXTS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "decoder"
    write_decoder(folder)
    return folder


@pytest.fixture(scope="module")
def plain(decoder_folder: Path) -> PlainLoop:
    return PlainLoop(decoder_folder)


def begin(
    service: RunningService, prompt: str = "", *, model: str = "writer", **fields: object
) -> "grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]":
    return service.texts.Generate(
        pb.GenerateRequest(model=model, prompt=prompt, **fields)  # type: ignore[arg-type]
    )


async def first_text(
    call: "grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]",
) -> str:
    piece = await call.read()
    assert isinstance(piece, pb.GenerateResponse)
    return piece.text


async def written(
    service: RunningService, prompt: str = "", **fields: object
) -> tuple[str, pb.GenerateEnd]:
    *pieces, last = [piece async for piece in begin(service, prompt, **fields)]  # type: ignore[arg-type]
    assert all(piece.text for piece in pieces)
    return "".join(piece.text for piece in pieces), last.end


async def runs(service: RunningService) -> tuple[int, int]:
    """How many runs the model had, and how many calls that were not answered."""
    request = extensions.ModelStatisticsRequest(name="writer")
    (stats,) = (await service.inference.ModelStatistics(request)).model_stats
    return stats.execution_count, stats.inference_stats.fail.count


async def has_room(service: RunningService, model: str) -> bool:
    try:
        await written(service, "blue", model=model, max_tokens=1)
    except grpc.aio.AioRpcError:
        return False
    return True


def decoder_process() -> psutil.Process:
    (found,) = (
        child
        for child in psutil.Process().children()
        if any("/writer/1" in argument for argument in child.cmdline())
    )
    return found


@pytest.mark.parametrize(("prompt", "limit"), [("blue", 200), ("red", 20), ("grün 0", 5)])
async def test_the_text_is_that_of_a_plain_loop(
    service: RunningService, plain: PlainLoop, prompt: str, limit: int
) -> None:
    expected, tokens, ended = plain.write(prompt, limit)
    text, end = await written(service, prompt, max_tokens=limit)
    assert text == expected
    assert end.finish_reason == (pb.FINISH_REASON_STOP if ended else pb.FINISH_REASON_LENGTH)
    assert (end.model, end.input_tokens, end.output_tokens) == (
        "writer",
        len(prompt.encode()),
        tokens,
    )
    assert (end.run.device, end.run.fallback, end.run.batch_texts) == ("cpu", "", 1)
    assert 0 < end.first_token_us <= end.run.queue_us + end.run.tokenize_us + end.run.compute_us + 1


async def test_texts_are_written_side_by_side(service: RunningService, plain: PlainLoop) -> None:
    prompts = ["blue", "once"]
    texts = await asyncio.gather(*(written(service, each) for each in prompts))
    assert [text for text, _ in texts] == [plain.write(each, 256)[0] for each in prompts]


async def test_a_conversation_takes_the_form_of_the_chat_template(
    service: RunningService, plain: PlainLoop
) -> None:
    said = [(pb.CHAT_ROLE_SYSTEM, "be brief"), (pb.CHAT_ROLE_USER, "hi")]
    messages = [pb.ChatMessage(role=role, text=text) for role, text in said]
    text, end = await written(service, messages=messages)
    prompt = "system:be brief user:hi assistant:"
    assert text == plain.write(prompt, 256)[0]
    assert end.input_tokens == len(prompt)


async def test_a_text_ends_before_what_is_to_stop_it(
    service: RunningService, plain: PlainLoop
) -> None:
    expected, tokens, _ = plain.write("blue", 256)
    stop = expected[20:23]
    text, end = await written(service, "blue", stop=["never", stop])
    assert text == expected[: expected.index(stop)]
    assert end.finish_reason == pb.FINISH_REASON_STOP
    assert end.output_tokens < tokens
    # What might have begun one is part of the text after all.
    assert expected.endswith("z")
    assert (await written(service, "blue", stop=["z!"]))[0] == expected


async def test_tokens_are_drawn_by_a_seed(service: RunningService, plain: PlainLoop) -> None:
    async def drawn(**sampling: float) -> str:
        text, _ = await written(
            service,
            "blue",
            max_tokens=20,
            sampling=pb.Sampling(**sampling),  # type: ignore[arg-type]
        )
        return text

    probable = plain.write("blue", 20)[0]
    first = await drawn(temperature=2, seed=1)
    assert first != probable
    assert await drawn(temperature=2, seed=1) == first
    assert await drawn(temperature=2, seed=2) != first
    assert await drawn(temperature=2, seed=1, top_k=1) == probable
    assert await drawn(temperature=0, seed=1) == probable
    assert await drawn(repetition_penalty=10) != probable


async def test_who_goes_away_ends_the_writing(service: RunningService) -> None:
    before = await runs(service)
    call = begin(service, ENDLESS, max_tokens=CONTEXT)
    assert await first_text(call) == "0"
    call.cancel()

    async def abandoned() -> bool:
        return (await runs(service))[1] == before[1] + 1

    await eventually(abandoned)
    stopped, _ = await runs(service)
    assert stopped - before[0] < CONTEXT - len(ENDLESS)
    await written(service, "blue", max_tokens=3)
    # One run that was under way, and those of the other text: its prompt, and its tokens.
    assert (await runs(service))[0] <= stopped + 1 + 1 + 3


async def test_the_context_bounds_prompt_and_text(service: RunningService) -> None:
    text, end = await written(service, "0" * (CONTEXT - 3), max_tokens=CONTEXT)
    assert (text, end.finish_reason) == ("000", pb.FINISH_REASON_LENGTH)
    error = await refusal(begin(service, "0" * CONTEXT).read(), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.PROMPT_TOO_LONG
    assert error.metadata == {"model": "writer", "tokens": str(CONTEXT), "limit": str(CONTEXT)}


async def test_a_model_writes_so_many_texts_at_a_time(service: RunningService) -> None:
    calls = [begin(service, ENDLESS, max_tokens=CONTEXT) for _ in range(TEXTS)]
    for call in calls:
        assert await first_text(call) == "0"
    error = await refusal(begin(service, "blue").read(), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (error.reason, error.metadata["limit"]) == (Reason.OVERLOADED, str(TEXTS))
    for call in calls:
        call.cancel()
    await eventually(lambda: has_room(service, "writer"))


async def test_a_process_that_dies_is_started_again(
    service: RunningService, plain: PlainLoop
) -> None:
    call = begin(service, ENDLESS, max_tokens=CONTEXT)
    assert await first_text(call) == "0"
    decoder_process().kill()

    async def read_on() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    error = await refusal(read_on(), grpc.StatusCode.UNAVAILABLE)
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert (await written(service, "blue"))[0] == plain.write("blue", 256)[0]


def open_model(folder: Path, **settings: Any) -> GenerationModel:
    return open_generator(
        "writer",
        "1",
        folder,
        RunPlan(),
        settings=ModelSettings(**settings),
        pools={Device.CPU: ComputePool(1)},
        meter=meter(),
        clock=time.monotonic,
    )


async def write_two_tokens(model: GenerationModel) -> list[str | Ended]:
    async with aclosing(model.generate(GenerateCall("blue", max_tokens=2))) as pieces:
        return [piece async for piece in pieces]


async def test_a_process_forgets_what_is_written(decoder_folder: Path) -> None:
    model = open_model(decoder_folder)
    assert await write_two_tokens(model)
    # Behind what was to be forgotten.
    answer = await model._runner.run(model._process.ask, {"do": "next", "id": 1})
    assert answer == {"unknown": True}
    await model.close()


async def test_a_process_is_not_started_again_with_other_files(
    decoder_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(decoder_folder, tmp_path / "decoder"))
    model = open_model(folder)
    (folder / "model.onnx").touch()
    assert await write_two_tokens(model)
    model._process._process.kill()
    model._process._process.wait()
    with pytest.raises(StepwireError, match="its files have changed since it was loaded") as raised:
        await write_two_tokens(model)
    assert raised.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    await model.close()


def test_a_process_that_hangs_while_it_loads_is_ended(decoder_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(decoder_folder, tmp_path / "hanging"))
    (folder / "genai_config.json").unlink()
    os.mkfifo(folder / "genai_config.json")
    with pytest.raises(ModelLoadError, match=r"loading took longer than 0.5 seconds"):
        open_model(folder, load_timeout_seconds=0.5)
    children = psutil.Process().children()
    assert not [child for child in children if str(folder) in " ".join(child.cmdline())]


async def test_models_do_what_they_are_for(service: RunningService) -> None:
    error = await refusal(begin(service, "blue", model="").read(), grpc.StatusCode.INVALID_ARGUMENT)
    assert "gpu_writer, writer" in error.message
    await service.unload("gpu_writer")
    assert (await written(service, "blue", model="", max_tokens=1))[1].model == "writer"
    await service.load("gpu_writer")
    error = await refusal(
        begin(service, "blue", model="tiny").read(), grpc.StatusCode.INVALID_ARGUMENT
    )
    assert error.reason is Reason.MODEL_INPUT_INVALID
    embed = model_service_pb2.EmbedRequest(model="writer", texts=["blue"])
    error = await refusal(service.texts.Embed(embed), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.MODEL_INPUT_INVALID


async def test_a_model_that_writes_has_the_queue_of_its_configuration(
    service: RunningService,
) -> None:
    call = begin(service, "blue", model="gpu_writer", priority=4)
    error = await refusal(call.read(), grpc.StatusCode.INVALID_ARGUMENT)
    assert "priority is 4, must be from 1 to 3" in error.message
    first = begin(service, ENDLESS, model="gpu_writer", priority=3, max_tokens=CONTEXT)
    assert await first_text(first) == "0"
    call = begin(service, "blue", model="gpu_writer", priority=1)
    error = await refusal(call.read(), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (error.reason, error.metadata["limit"]) == (Reason.OVERLOADED, "1")
    first.cancel()
    await eventually(lambda: has_room(service, "gpu_writer"))


async def test_a_model_that_writes_is_called_by_tensor_too(
    service: RunningService, plain: PlainLoop
) -> None:
    text = {"text_input": np.array([b"blue"], dtype=object)}
    response = await service.inference.ModelInfer(infer("writer", text))
    assert response.raw_output_contents[0][4:].decode() == plain.write("blue", 256)[0]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (b"", "must not be empty"),
        (b"to be \0 continued", "must not contain the character U+0000"),
        (b"x" * 100_001, "must have at most 100000 characters"),
    ],
)
async def test_prompts_by_tensor_have_the_limits_of_others(
    service: RunningService, prompt: bytes, says: str
) -> None:
    call = service.inference.ModelInfer(
        infer("writer", {"text_input": np.array([prompt], dtype=object)})
    )
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert (error.reason, error.metadata["tensor"]) == (Reason.MODEL_INPUT_INVALID, "text_input")
    assert says in error.message


async def test_a_process_goes_on_while_its_service_does(
    service: RunningService, plain: PlainLoop
) -> None:
    call = begin(service, ENDLESS, max_tokens=CONTEXT)
    assert await first_text(call) == "0"
    process = decoder_process()
    process.terminate()
    assert (await written(service, "blue"))[0] == plain.write("blue", 256)[0]
    call.cancel()
    assert decoder_process() == process


async def test_what_falls_back_to_the_cpu_says_so_everywhere(
    service: RunningService, plain: PlainLoop
) -> None:
    text, end = await written(service, "blue", model="gpu_writer")
    assert text == plain.write("blue", 256)[0]
    assert end.run.device == "cpu"
    assert "cuda" in end.run.fallback.lower()
    assert (await service.index())["gpu_writer", "1"] == ("READY", end.run.fallback)
    words = {"text_input": np.array([b"blue"], dtype=object)}
    response = await service.inference.ModelInfer(infer("gpu_writer", words))
    assert response.parameters["stepwire_fallback"].string_param == end.run.fallback
    async with open_channel(service.address) as channel:
        listed = await HealthStub(channel).List(HealthListRequest())
    statuses = {name: answer.status for name, answer in listed.statuses.items()}
    assert statuses.pop("stepwire.model.gpu") == HealthCheckResponse.NOT_SERVING
    assert set(statuses.values()) == {HealthCheckResponse.SERVING}


async def test_a_model_that_cannot_be_read_harms_no_other(service: RunningService) -> None:
    index = await service.index()
    assert index["writer", "1"] == ("READY", "")
    state, reason = index["broken", "1"]
    assert state == "UNAVAILABLE"
    assert reason


async def test_a_model_that_writes_is_listed_as_such(service: RunningService) -> None:
    response = await service.texts.ListTextModels(text_model_pb2.ListTextModelsRequest())
    writer = {model.name: model for model in response.models}["writer"]
    assert (writer.ready, list(writer.verbs)) == (True, [text_model_pb2.TEXT_VERB_GENERATE])
    assert (writer.max_tokens, writer.dimension) == (CONTEXT, 0)
