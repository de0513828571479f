from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio

from model_svc.oip.byte_strings import bytes_tensor
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.errors import Reason
from tests.integration.model_svc.graphs import write_encoder, write_scale
from tests.integration.model_svc.model_service import (
    RunningService,
    configure,
    infer,
    output,
    running_service,
)
from tests.integration.model_svc.refusals import refusal

# A text's vector, as it is and ten times as long.
LONG = """
platform: "ensemble"
input { name: "TEXT" data_type: TYPE_STRING dims: [-1] }
output { name: "SHORT" data_type: TYPE_FP32 dims: [-1, 4] }
output { name: "LONG" data_type: TYPE_FP32 dims: [-1, 4] }
ensemble_scheduling {
  step {
    model_name: "scale"
    input_map { key: "x" value: "SHORT" }
    output_map { key: "y" value: "LONG" }
  }
  step {
    model_name: "tiny"
    input_map { key: "text" value: "TEXT" }
    output_map { key: "sentence_embedding" value: "SHORT" }
  }
}
"""
# Says of its output what is not true.
WRONG = """
platform: "ensemble"
input { name: "TEXT" data_type: TYPE_STRING dims: [-1] }
output { name: "OUT" data_type: TYPE_INT64 dims: [-1, 4] }
ensemble_scheduling {
  step {
    model_name: "tiny"
    input_map { key: "text" value: "TEXT" }
    output_map { key: "sentence_embedding" value: "OUT" }
  }
}
"""
TEXTS = {"TEXT": bytes_tensor([b"red", b"blue"])}


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    write_encoder(tmp_path / "tiny" / "1")
    write_scale(tmp_path / "scale" / "1", 10, width=4)
    configure(tmp_path / "long", LONG)
    (tmp_path / "long" / "1").mkdir()
    async with running_service(repository_dir=tmp_path, default_model="tiny") as running:
        yield running


async def test_tensors_go_from_model_to_model(service: RunningService) -> None:
    response = await service.inference.ModelInfer(infer("long", TEXTS))
    assert [tensor.name for tensor in response.outputs] == ["SHORT", "LONG"]
    short = np.array([[0, 1, 0, 0], [0, 0, 0, 1]])
    assert (output(response) == short).all()
    assert (output(response, 1) == 10 * short).all()


async def test_only_the_steps_of_what_is_asked_for_are_run(service: RunningService) -> None:
    wanted = infer("long", TEXTS)
    wanted.outputs.add(name="SHORT")
    await service.inference.ModelInfer(wanted)
    every = await service.inference.ModelStatistics(extensions.ModelStatisticsRequest())
    successes = {stats.name: stats.inference_stats.success.count for stats in every.model_stats}
    assert successes == {"long": 1, "tiny": 1, "scale": 0}


async def test_its_models_may_come_go_and_change(service: RunningService, tmp_path: Path) -> None:
    await service.unload("scale")
    call = service.inference.ModelInfer(infer("long", TEXTS))
    error = await refusal(call, grpc.StatusCode.FAILED_PRECONDITION)
    assert error.reason is Reason.MODEL_NOT_READY
    assert error.metadata["model"] == "scale"
    write_scale(tmp_path / "scale" / "2", 3, width=5)
    await service.load("scale")
    call = service.inference.ModelInfer(infer("long", TEXTS))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.metadata["model"] == "long"
    assert "step scale: input x would be float32 of shape [2, 4]" in error.message


async def test_ensembles_do_not_call_ensembles(service: RunningService, tmp_path: Path) -> None:
    configure(tmp_path / "again", LONG.replace('"tiny"', '"again"'))
    (tmp_path / "again" / "1").mkdir()
    await service.load("again")
    call = service.inference.ModelInfer(infer("again", TEXTS))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert "it is an ensemble itself" in error.message


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (WRONG, "output OUT would be float32 of shape [2, 4], must be INT64 of shape [-1, 4]"),
        (WRONG.replace("TYPE_INT64", "TYPE_STRING"), "must be BYTES of shape [-1, 4]"),
        (WRONG.replace("TYPE_INT64", "TYPE_FP32").replace("[-1, 4]", "[7]"), "of shape [7]"),
    ],
)
async def test_an_ensemble_gives_what_its_configuration_says_or_nothing(
    service: RunningService, tmp_path: Path, config: str, says: str
) -> None:
    configure(tmp_path / "wrong", config)
    (tmp_path / "wrong" / "1").mkdir()
    await service.load("wrong")
    call = service.inference.ModelInfer(infer("wrong", TEXTS))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.metadata["model"] == "wrong"
    assert says in error.message


async def test_a_step_has_no_more_rows_than_its_model_takes(
    service: RunningService, tmp_path: Path
) -> None:
    configure(tmp_path / "scale", "max_batch_size: 1")
    await service.load("scale")
    call = service.inference.ModelInfer(infer("long", TEXTS))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert "step scale: its inputs would have 2 rows, must have at most 1" in error.message
