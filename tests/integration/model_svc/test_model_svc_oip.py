import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import numpy as np
import pytest

from model_svc.oip.byte_strings import bytes_tensor, decode_bytes
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub
from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub
from stepwire.errors import Reason
from tests.integration.model_svc.model_service import infer, output
from tests.integration.model_svc.refusals import refusal

ENCODER = "all-minilm-l6-v2"


def floats(*rows: tuple[float, float]) -> Any:
    return np.array(rows, dtype=np.float32)


async def test_the_server_describes_itself(inference_stub: GRPCInferenceServiceAsyncStub) -> None:
    assert (await inference_stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await inference_stub.ServerReady(pb.ServerReadyRequest())).ready
    metadata = await inference_stub.ServerMetadata(pb.ServerMetadataRequest())
    assert metadata.name == "stepwire-model"
    assert metadata.version
    assert set(metadata.extensions) >= {"model_configuration", "model_repository", "statistics"}


async def test_models_describe_themselves(inference_stub: GRPCInferenceServiceAsyncStub) -> None:
    scale = await inference_stub.ModelMetadata(pb.ModelMetadataRequest(name="scale"))
    assert list(scale.versions) == ["1", "9", "10"]
    assert scale.platform == "onnxruntime_onnx"
    assert [(t.name, t.datatype, list(t.shape)) for t in scale.inputs] == [("x", "FP32", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in scale.outputs] == [("y", "FP32", [-1, 2])]
    encoder = await inference_stub.ModelMetadata(pb.ModelMetadataRequest(name=ENCODER))
    assert list(encoder.versions) == ["1"]
    assert [(t.name, t.datatype, list(t.shape)) for t in encoder.inputs] == [
        ("input_ids", "INT64", [-1, -1]),
        ("attention_mask", "INT64", [-1, -1]),
        ("text", "BYTES", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in encoder.outputs] == [
        ("sentence_embedding", "FP32", [-1, 384])
    ]


async def test_a_model_is_ready_by_name_and_version(
    inference_stub: GRPCInferenceServiceAsyncStub,
) -> None:
    for version in ("", "1", "10"):
        request = pb.ModelReadyRequest(name="scale", version=version)
        assert (await inference_stub.ModelReady(request)).ready


@pytest.mark.parametrize(("version", "used", "factor"), [("", "10", 3), ("1", "1", 2)])
async def test_the_latest_version_is_used_unless_one_is_named(
    inference_stub: GRPCInferenceServiceAsyncStub, version: str, used: str, factor: float
) -> None:
    request = infer("scale", {"x": floats((1, 2), (3, 4))}, model_version=version, id="call-1")
    response = await inference_stub.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("scale", used, "call-1")
    assert output(response).tolist() == [[factor, 2 * factor], [3 * factor, 4 * factor]]


async def test_typed_contents_are_read(inference_stub: GRPCInferenceServiceAsyncStub) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x",
        datatype="FP32",
        shape=[1, 2],
        contents=pb.InferTensorContents(fp32_contents=[1, 2]),
    )
    response = await inference_stub.ModelInfer(
        pb.ModelInferRequest(model_name="scale", model_version="1", inputs=[tensor])
    )
    assert output(response).tolist() == [[2, 4]]
    assert response.id == ""


async def test_texts_go_through_an_onnx_model(
    inference_stub: GRPCInferenceServiceAsyncStub,
) -> None:
    words = {"a": bytes_tensor([b"x", "é".encode()]), "b": bytes_tensor([b"", b"z"])}
    response = await inference_stub.ModelInfer(infer("join", words))
    assert response.outputs[0].datatype == "BYTES"
    assert decode_bytes(response.raw_output_contents[0]) == [b"x", "éz".encode()]


async def test_only_the_outputs_asked_for_are_given(
    inference_stub: GRPCInferenceServiceAsyncStub,
) -> None:
    x = {"x": np.array([1, 2, 3, 4])}
    both = await inference_stub.ModelInfer(infer("parts", x))
    assert [tensor.name for tensor in both.outputs] == ["low", "high"]
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name="high")]
    response = await inference_stub.ModelInfer(infer("parts", x, outputs=wanted))
    assert [tensor.name for tensor in response.outputs] == ["high"]
    assert output(response, dtype="<i8").tolist() == [3, 4]


async def test_half_precision_goes_raw(inference_stub: GRPCInferenceServiceAsyncStub) -> None:
    half = np.array([[1, 2]], dtype=np.float16)
    response = await inference_stub.ModelInfer(infer("product", {"a": half, "b": half.T.copy()}))
    assert response.outputs[0].datatype == "FP16"
    assert output(response, dtype="<f2").tolist() == [[5]]


async def test_the_encoder_reads_token_ids_and_texts_alike(
    inference_stub: GRPCInferenceServiceAsyncStub, model_stub: ModelServiceAsyncStub
) -> None:
    ids = np.array([[101, 7592, 2088, 102, 0], [101, 2154, 102, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    texts = {"text": bytes_tensor([b"hello world", b"day"])}
    by_ids, by_text, embedded = await asyncio.gather(
        inference_stub.ModelInfer(infer(ENCODER, {"input_ids": ids, "attention_mask": mask})),
        inference_stub.ModelInfer(infer(ENCODER, texts)),
        model_stub.Embed(model_pb.EmbedRequest(texts=["hello world", "day"])),
    )
    expected = np.frombuffer(embedded.vectors, dtype="<f4").reshape(2, 384)
    assert np.abs(output(by_ids) - expected).max() < 1e-5
    assert np.abs(output(by_text) - expected).max() < 1e-5


async def test_texts_and_token_ids_wait_no_longer_than_they_are_told(
    inference_stub: GRPCInferenceServiceAsyncStub,
) -> None:
    ids = {name: np.ones((1, 3), dtype=np.int64) for name in ("input_ids", "attention_mask")}
    for tensors in (ids, {"text": bytes_tensor([b"hello"])}):
        request = infer(ENCODER, tensors)
        request.parameters["timeout"].int64_param = 1  # microsecond
        call = inference_stub.ModelInfer(request)
        error = await refusal(call, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert error.reason is Reason.DEADLINE_EXCEEDED


def tokens(ids: list[list[int]], mask: list[list[int]]) -> pb.ModelInferRequest:
    return infer(ENCODER, {"input_ids": np.array(ids), "attention_mask": np.array(mask)})


def tokens_of_shape(*shape: int) -> pb.ModelInferRequest:
    zeros = np.zeros(shape, dtype=np.int64)
    return infer(ENCODER, {"input_ids": zeros, "attention_mask": zeros})


@pytest.mark.parametrize(
    ("request_", "tensor"),
    [
        (tokens([[101, 30522]], [[1, 1]]), "input_ids"),
        (tokens([[101, -1]], [[1, 1]]), "input_ids"),
        (tokens([[1] * 513], [[1] * 513]), "input_ids"),
        (tokens_of_shape(1, 0), "input_ids"),
        (tokens_of_shape(0, 3), "input_ids"),
        (tokens([[101, 102]], [[0, 1]]), "attention_mask"),
        (tokens([[101, 102]], [[0, 0]]), "attention_mask"),
        (tokens([[101, 102]], [[2, 1]]), "attention_mask"),
        (tokens([[101, 102]], [[1]]), "attention_mask"),
        (infer(ENCODER, {"input_ids": np.zeros((1, 0), dtype=np.int64)}), ""),
        (infer(ENCODER, {"text": bytes_tensor([])}), "text"),
        (infer(ENCODER, {"text": bytes_tensor([b"\xff"])}), "text"),
        (infer("scale", {"z": floats((1, 2))}), "z"),
        (infer("scale", {"x": np.zeros((1, 2), dtype=np.float16)}), "x"),
        (infer("scale", {"x": np.zeros((1, 3), dtype=np.float32)}), "x"),
        (infer("join", {"a": bytes_tensor([b"x"]), "b": bytes_tensor([b"\xff"])}), "b"),
        (infer("join", {"a": bytes_tensor([b"x"]), "b": bytes_tensor([])}), "b"),
        (infer("parts", {}), "x"),
    ],
)
async def test_inputs_that_do_not_fit_are_refused(
    inference_stub: GRPCInferenceServiceAsyncStub, request_: pb.ModelInferRequest, tensor: str
) -> None:
    call = inference_stub.ModelInfer(request_)
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.MODEL_INPUT_INVALID
    assert error.metadata["model"] == request_.model_name
    assert error.metadata.get("tensor", "") == tensor


async def test_what_onnx_runtime_refuses_is_the_caller_s_fault(
    inference_stub: GRPCInferenceServiceAsyncStub,
) -> None:
    odd = {"a": np.ones((1, 3), np.float16), "b": np.ones((2, 1), np.float16)}
    call = inference_stub.ModelInfer(infer("product", odd))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.MODEL_INPUT_INVALID
    assert "dimension mismatch" in error.message


@pytest.mark.parametrize(("name", "version"), [("gone", ""), ("scale", "2"), ("scale", "latest")])
async def test_unknown_models_and_versions_are_not_found(
    inference_stub: GRPCInferenceServiceAsyncStub, name: str, version: str
) -> None:
    calls: list[Awaitable[object]] = [
        inference_stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)),
        inference_stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
        inference_stub.ModelInfer(infer(name, {}, model_version=version)),
    ]
    for call in calls:
        error = await refusal(call, grpc.StatusCode.NOT_FOUND)
        assert error.reason is Reason.MODEL_NOT_FOUND
        assert error.metadata["model"] == name


async def test_a_model_must_be_named(inference_stub: GRPCInferenceServiceAsyncStub) -> None:
    calls: dict[str, Awaitable[object]] = {
        "name": inference_stub.ModelReady(pb.ModelReadyRequest()),
        "model_name": inference_stub.ModelInfer(pb.ModelInferRequest()),
    }
    for field, call in calls.items():
        error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert [fault.field for fault in error.faults] == [field]
