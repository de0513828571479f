"""Whatever a request holds, it is decoded or refused; and what is encoded is decoded alike."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_svc.oip.byte_strings import bytes_tensor, encode_bytes
from model_svc.oip.decode import decode_inputs
from model_svc.oip.http.infer_body import decode_infer, encode_infer
from model_svc.oip.http.json_tensors import json_data, raw_contents
from model_svc.oip.parameters import decode_options
from model_svc.repository.served import ServedModel
from model_svc.tensors import BF16, BYTES, DTYPES, TensorSpec
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import Reason, StepwireError
from tests.unit.model_svc.test_model_svc_oip_decode import FixedModel

Infer = pb.ModelInferRequest
Input = Infer.InferInputTensor

REFUSALS = {Reason.FIELD_INVALID, Reason.MODEL_INPUT_INVALID}
SPECS = (TensorSpec("x", "FP32", ("batch", 2)), TensorSpec("t", BYTES, ("batch",)))


def served(*specs: TensorSpec) -> ServedModel:
    return ServedModel("m", "1", FixedModel(*specs), inputs=specs, outputs=FixedModel.outputs)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Any]:
    """A datatype, and a tensor of it."""
    datatype = draw(st.sampled_from([*DTYPES, BYTES]))
    shape = draw(hnp.array_shapes(max_dims=3, max_side=4, min_side=0))
    if datatype == BYTES:
        count = math.prod(shape)
        texts = draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        return datatype, bytes_tensor([text.encode() for text in texts]).reshape(shape)
    return datatype, draw(hnp.arrays(DTYPES[datatype], shape))


def raw_of(datatype: str, tensor: Any) -> bytes:
    return encode_bytes(tensor) if datatype == BYTES else tensor.tobytes()


@given(tensors())
def test_raw_contents_of_any_tensor_are_read_back(given_: tuple[str, Any]) -> None:
    datatype, tensor = given_
    request = Infer(
        inputs=[Input(name="x", datatype=datatype, shape=tensor.shape)],
        raw_input_contents=[raw_of(datatype, tensor)],
    )
    spec = TensorSpec("x", datatype, ("",) * tensor.ndim)
    decoded = decode_inputs(request, served(spec))["x"]
    assert decoded.shape == tensor.shape
    assert raw_of(datatype, decoded) == raw_of(datatype, tensor)


@given(tensors())
def test_json_of_any_tensor_is_read_back(given_: tuple[str, Any]) -> None:
    datatype, tensor = given_
    raw = raw_of(datatype, tensor)
    data = json.loads(json.dumps(json_data(datatype, raw), allow_nan=False))
    again = raw_contents(datatype, data)
    if datatype in {BF16, "FP16", "FP32", "FP64"}:
        # There are many NaN; JSON has one.
        assert json_data(datatype, again) == data
        assert len(again) == len(raw)
    else:
        assert again == raw


inputs = st.lists(
    st.builds(
        Input,
        name=st.sampled_from(["x", "t", "q", ""]),
        datatype=st.sampled_from(["FP32", BYTES, "INT8", ""]),
        shape=st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
        contents=st.none()
        | st.builds(
            pb.InferTensorContents,
            fp32_contents=st.lists(st.floats(width=32), max_size=4),
            bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
        ),
    ),
    max_size=3,
)


@given(
    st.builds(Infer, inputs=inputs, raw_input_contents=st.lists(st.binary(max_size=17), max_size=3))
)
def test_any_request_is_decoded_or_refused(request: Infer) -> None:
    try:
        decode_options(request)
        decoded = decode_inputs(request, served(*SPECS))
    except StepwireError as error:
        assert error.reason in REFUSALS  # noqa: PT017
    else:
        assert decoded["x"].shape == (len(decoded["t"]), 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
fields = ["id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data"]
objects = st.dictionaries(st.sampled_from(fields), json_values)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "parameters": json_values,
        "inputs": st.lists(objects | json_values, max_size=2),
        "outputs": st.lists(objects | json_values, max_size=2),
    },
)


@given(bodies.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=20), st.data())
def test_any_body_is_decoded_or_refused(content: bytes, data: st.DataObject) -> None:
    end = data.draw(st.none() | st.integers(0, len(content) + 1))
    try:
        request, _ = decode_infer("m", "", content, json_bytes=end)
    except StepwireError as error:
        assert error.reason in REFUSALS  # noqa: PT017
    else:
        assert len(request.raw_input_contents) == len(request.inputs)


@given(tensors(), st.booleans())
def test_bodies_carry_any_tensor_both_ways(given_: tuple[str, Any], binary: bool) -> None:  # noqa: FBT001
    datatype, tensor = given_
    raw = raw_of(datatype, tensor)
    response = pb.ModelInferResponse(
        model_name="m",
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name="x", datatype=datatype, shape=tensor.shape)
        ],
        raw_output_contents=[raw],
    )
    wanted = {"outputs": [{"name": "x", "parameters": {"binary_data": binary}}]}
    _, outputs = decode_infer("m", "", json.dumps(wanted).encode(), json_bytes=None)
    body, end = encode_infer(response, outputs)
    output = json.loads(body[:end])["outputs"][0]
    assert (end < len(body)) == (binary and raw != b"")
    request = {"inputs": [output]}
    sent = json.dumps(request).encode()
    decoded, _ = decode_infer("m", "", sent + body[end:], json_bytes=len(sent))
    assert list(decoded.inputs[0].shape) == list(tensor.shape)
    assert json_data(datatype, decoded.raw_input_contents[0]) == json_data(datatype, raw)


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    ulp = 2**-7
    numbers = [1 + ulp / 2, 1 + 3 * ulp / 2, 1 + 0.51 * ulp, -1 - ulp / 2, 0.0]
    rounded = json_data(BF16, raw_contents(BF16, numbers))
    assert rounded == [1, 1 + 2 * ulp, 1 + ulp, -1, 0]
