import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_svc.oip.byte_strings import bytes_tensor, decode_bytes, encode_bytes
from model_svc.oip.decode import decode_inputs, decode_outputs
from model_svc.oip.encode import encode_metadata, encode_outputs
from model_svc.oip.parameters import Options, decode_options
from model_svc.ports import InferCall, Inferred, Ran
from model_svc.repository.served import ServedModel
from model_svc.running.statistics import Statistics, Timings
from model_svc.tensors import BYTES, DTYPES, TensorSpec
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import Reason, StepwireError

Infer = pb.ModelInferRequest
Input = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents


class FixedModel:
    """A model that only describes itself."""

    platform = "test"
    device = "cpu"
    fallback = ""
    max_batch_rows = 0
    statistics = Statistics()
    outputs = (TensorSpec("y", "FP32", ("batch", 2)), TensorSpec("z", BYTES, ()))

    def __init__(self, *inputs: TensorSpec, sets: Sequence[frozenset[str]] | None = None) -> None:
        self.inputs = inputs
        self.input_sets = sets or [frozenset(spec.name for spec in inputs)]

    async def infer(self, call: InferCall) -> Inferred:
        raise AssertionError("decoding runs no model")

    async def close(self) -> None:
        raise AssertionError("decoding closes no model")


def served(
    *inputs: TensorSpec, sets: Sequence[frozenset[str]] | None = None, max_rows: int = 0
) -> ServedModel:
    model = FixedModel(*inputs, sets=sets)
    return ServedModel(
        "m", "3", model, inputs=inputs, outputs=FixedModel.outputs, max_rows=max_rows
    )


def refused(request: Infer, model: ServedModel) -> StepwireError:
    with pytest.raises(StepwireError) as raised:
        decode_inputs(request, model)
    assert raised.value.reason is Reason.MODEL_INPUT_INVALID
    assert raised.value.metadata["model"] == "m"
    return raised.value


X = TensorSpec("x", "FP32", ("batch", 2))


def raw_x(*, name: str = "x", datatype: str = "FP32", shape: Sequence[int] = (1, 2)) -> Infer:
    return Infer(
        inputs=[Input(name=name, datatype=datatype, shape=shape)],
        raw_input_contents=[struct.pack("<2f", 1.5, -2)],
    )


def test_raw_contents_become_a_tensor_without_a_copy() -> None:
    tensor = decode_inputs(raw_x(), served(X))["x"]
    assert tensor.tolist() == [[1.5, -2]]
    assert not tensor.flags.owndata


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_every_fixed_width_datatype_is_read_raw(datatype: str) -> None:
    expected = np.array([0, 1, 1], dtype=DTYPES[datatype])
    request = Infer(
        inputs=[Input(name="x", datatype=datatype, shape=[3])],
        raw_input_contents=[expected.tobytes()],
    )
    tensor = decode_inputs(request, served(TensorSpec("x", datatype, (3,))))["x"]
    assert tensor.dtype == expected.dtype
    assert tensor.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("datatype", "contents"),
    [
        ("BOOL", {"bool_contents": [True, False]}),
        ("INT8", {"int_contents": [-128, 127]}),
        ("INT16", {"int_contents": [-3, 4]}),
        ("INT32", {"int_contents": [-3, 4]}),
        ("INT64", {"int64_contents": [-(2**62), 4]}),
        ("UINT8", {"uint_contents": [0, 255]}),
        ("UINT16", {"uint_contents": [3, 4]}),
        ("UINT32", {"uint_contents": [3, 4]}),
        ("UINT64", {"uint64_contents": [2**63, 4]}),
        ("FP32", {"fp32_contents": [0.5, 4]}),
        ("FP64", {"fp64_contents": [0.1, 4]}),
        ("BYTES", {"bytes_contents": [b"a\0b", b""]}),
    ],
)
def test_every_datatype_is_read_from_typed_contents(
    datatype: str, contents: dict[str, list[Any]]
) -> None:
    request = Infer(
        inputs=[Input(name="x", datatype=datatype, shape=[2, 1], contents=Contents(**contents))]
    )
    tensor = decode_inputs(request, served(TensorSpec("x", datatype, ("n", 1))))["x"]
    (values,) = contents.values()
    assert tensor.tolist() == [[value] for value in values]
    assert tensor.dtype == DTYPES.get(datatype, np.dtype(object))


@pytest.mark.parametrize(
    ("request_", "tensor", "says"),
    [
        (raw_x(name="q"), "q", "no such input; it has x"),
        (raw_x(datatype="FP64"), "x", "'FP64', must be FP32"),
        (raw_x(datatype=""), "x", "'', must be FP32"),
        (raw_x(shape=[2]), "x", "[2], must be [-1, 2]"),
        (raw_x(shape=[1, 3]), "x", "[1, 3], must be [-1, 2]"),
        (raw_x(shape=[-1, 2]), "x", "[-1, 2], must be [-1, 2]"),
        (raw_x(shape=[2, 2]), "x", "8 bytes, must be 16"),
        (raw_x(shape=[2**40, 2]), "x", "8 bytes, must be"),
        (Infer(inputs=[Input(name="x", datatype="FP32", shape=[1, 2])]), "x", "has 0 elements"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(request_: Infer, tensor: str, says: str) -> None:
    error = refused(request_, served(X))
    assert error.metadata["tensor"] == tensor
    assert tensor in error.message
    assert says in error.message


def test_inputs_must_be_given_once_and_all() -> None:
    two = raw_x()
    two.inputs.append(two.inputs[0])
    two.raw_input_contents.append(two.raw_input_contents[0])
    assert "given twice" in refused(two, served(X)).message
    missing = refused(raw_x(), served(X, TensorSpec("mask", "INT64", ("batch",))))
    assert missing.metadata["tensor"] == "mask"
    assert refused(Infer(), served(X)).metadata["tensor"] == "x"


def test_one_of_the_input_sets_must_be_given() -> None:
    model = served(
        X, TensorSpec("text", BYTES, ("batch",)), sets=[frozenset({"x"}), frozenset({"text"})]
    )
    assert list(decode_inputs(raw_x(), model)) == ["x"]
    assert "inputs are {}, must be {x} or {text}" in refused(Infer(), model).message


def test_variable_sizes_of_one_name_must_agree() -> None:
    model = served(X, TensorSpec("mask", "INT8", ("batch",)))
    request = raw_x()
    request.inputs.append(Input(name="mask", datatype="INT8", shape=[3]))
    request.raw_input_contents.append(b"\1\1\1")
    error = refused(request, model)
    assert error.metadata["tensor"] == "mask"
    assert "batch is 1 in another input" in error.message


def test_unnamed_sizes_may_differ() -> None:
    model = served(TensorSpec("a", "INT8", ("",)), TensorSpec("b", "INT8", ("",)))
    request = Infer(
        inputs=[
            Input(name="a", datatype="INT8", shape=[1]),
            Input(name="b", datatype="INT8", shape=[2]),
        ],
        raw_input_contents=[b"\1", b"\1\2"],
    )
    assert decode_inputs(request, model)["b"].tolist() == [1, 2]


@pytest.mark.parametrize("raw", [[b""], []])
def test_a_shape_may_be_too_large_without_elements(raw: list[bytes]) -> None:
    model = served(TensorSpec("x", "FP32", ("", "", "")))
    shape = [2**40, 0, 2**40]
    request = Infer(inputs=[Input(name="x", datatype="FP32", shape=shape)], raw_input_contents=raw)
    error = refused(request, model)
    assert error.metadata["tensor"] == "x"
    assert "too large" in error.message
    request.inputs[0].shape[:] = [2, 0, 2]
    assert decode_inputs(request, model)["x"].shape == (2, 0, 2)


def test_raw_and_typed_contents_do_not_mix() -> None:
    request = raw_x()
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    assert "unset beside raw_input_contents" in refused(request, served(X)).message
    request = raw_x()
    request.raw_input_contents.append(b"")
    assert "2 entries for 1 inputs" in refused(request, served(X)).message


def test_typed_contents_must_be_in_range_and_of_the_right_field() -> None:
    def request(datatype: str, **contents: Any) -> Infer:
        return Infer(
            inputs=[Input(name="x", datatype=datatype, shape=[1], contents=Contents(**contents))]
        )

    def model(datatype: str) -> ServedModel:
        return served(TensorSpec("x", datatype, (1,)))

    assert "outside INT8" in refused(request("INT8", int_contents=[128]), model("INT8")).message
    assert "0 elements" in refused(request("INT8", int64_contents=[1]), model("INT8")).message
    assert "only raw" in refused(request("FP16", fp32_contents=[1]), model("FP16")).message


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_byte_strings_round_trip(elements: list[bytes]) -> None:
    assert decode_bytes(encode_bytes(bytes_tensor(elements))) == elements


@pytest.mark.parametrize("raw", [b"\1", b"\1\0\0\0", b"\5\0\0\0abcd", b"\0\0\0\0\0"])
def test_cut_byte_strings_are_refused(raw: bytes) -> None:
    model = served(TensorSpec("t", BYTES, ("n",)))
    request = Infer(inputs=[Input(name="t", datatype="BYTES", shape=[1])], raw_input_contents=[raw])
    assert refused(request, model).metadata["tensor"] == "t"


def test_the_shape_of_byte_strings_counts_elements() -> None:
    model = served(TensorSpec("t", BYTES, ("n",)))
    request = Infer(
        inputs=[Input(name="t", datatype="BYTES", shape=[2])],
        raw_input_contents=[encode_bytes(bytes_tensor([b"one"]))],
    )
    assert "has 1 elements, its shape [2] says 2" in refused(request, model).message


def test_outputs_are_given_in_the_order_asked_for() -> None:
    names = Infer(outputs=[Infer.InferRequestedOutputTensor(name=name) for name in ("z", "y")])
    assert [spec.name for spec in decode_outputs(names, served(X))] == ["z", "y"]
    assert [spec.name for spec in decode_outputs(Infer(), served(X))] == ["y", "z"]
    with pytest.raises(StepwireError, match="tensor w: the model has no such output"):
        decode_outputs(Infer(outputs=[Infer.InferRequestedOutputTensor(name="w")]), served(X))


def test_responses_carry_raw_contents_and_the_request_s_id() -> None:
    model = served(X)
    tensors = [np.array([[1, 2]], dtype=np.float64), np.array([b"ab"], dtype=object)]
    response = encode_outputs(model, "id-7", model.outputs, Inferred(tensors), Options())
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "id-7")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("y", "FP32", [1, 2]),
        ("z", "BYTES", [1]),
    ]
    assert list(response.raw_output_contents) == [struct.pack("<2f", 1, 2), b"\2\0\0\0ab"]
    assert not response.parameters


def test_responses_tell_where_the_time_went_if_asked() -> None:
    ran = Ran(Timings(queue=0.001, tokenize=0.0000021, compute=2), batch_items=3, cached=True)
    options = decode_options(
        Infer(parameters={"stepwire_timings": pb.InferParameter(bool_param=True)})
    )
    parameters = encode_outputs(served(X), "", [], Inferred([], ran), options).parameters
    assert parameters["stepwire_queue_us"].int64_param == 1_000
    assert parameters["stepwire_tokenize_us"].int64_param == 2
    assert parameters["stepwire_compute_us"].int64_param == 2_000_000
    assert parameters["stepwire_batch_items"].int64_param == 3
    assert parameters["stepwire_device"].string_param == "cpu"
    assert parameters["stepwire_cached"].bool_param is True


def test_the_last_response_is_marked_if_asked() -> None:
    mark = {"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}
    options = decode_options(Infer(parameters=mark))
    response = encode_outputs(served(X), "", [], Inferred([]), options)
    assert response.parameters["triton_final_response"].bool_param is True


def test_rows_are_bounded_and_agree() -> None:
    model = served(X, TensorSpec("w", "FP32", ("", 2)), max_rows=2)

    def rows(*counts: int) -> Infer:
        return Infer(
            inputs=[
                Input(name=name, datatype="FP32", shape=[count, 2])
                for name, count in zip("xw", counts, strict=True)
            ],
            raw_input_contents=[bytes(8 * count) for count in counts],
        )

    assert set(decode_inputs(rows(2, 2), model)) == {"x", "w"}
    assert "must have at most 2" in refused(rows(3, 3), model).message
    assert "[1, 2] rows" in refused(rows(1, 2), model).message


def test_metadata_tells_variable_sizes_as_minus_one() -> None:
    metadata = encode_metadata(served(X), ["1", "3"])
    assert list(metadata.versions) == ["1", "3"]
    assert metadata.platform == "test"
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("x", "FP32", [-1, 2])
    ]
