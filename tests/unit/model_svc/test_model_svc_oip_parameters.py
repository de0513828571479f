from typing import Any

import pytest

from model_svc.oip.parameters import Options, decode_options
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import Reason, StepwireError

Infer = pb.ModelInferRequest


def with_parameter(name: str, **value: Any) -> Infer:
    return Infer(parameters={name: pb.InferParameter(**value)})


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_priority_and_timeout_are_whole_numbers_of_either_kind(kind: str) -> None:
    request = with_parameter("priority", **{kind: 2})
    request.parameters["timeout"].MergeFrom(pb.InferParameter(**{kind: 1_500_000}))
    assert decode_options(request) == Options(priority=2, timeout_seconds=1.5)


def test_nothing_said_and_0_leave_it_to_the_model() -> None:
    assert decode_options(Infer()) == Options()
    assert decode_options(with_parameter("timeout", int64_param=0)) == Options()


def test_unknown_parameters_are_ignored() -> None:
    assert decode_options(with_parameter("colour", string_param="red")) == Options()
    assert decode_options(with_parameter("sequence_id", int64_param=0)) == Options()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (with_parameter("anything"), "parameters[anything]"),
        (with_parameter("priority", int64_param=-1), "parameters[priority]"),
        (with_parameter("priority", string_param="1"), "parameters[priority]"),
        (with_parameter("priority", bool_param=True), "parameters[priority]"),
        (with_parameter("timeout", double_param=1.5), "parameters[timeout]"),
        (with_parameter("timeout", uint64_param=2**63), "parameters[timeout]"),
        (with_parameter("stepwire_timings", int64_param=1), "parameters[stepwire_timings]"),
        (with_parameter("sequence_id", int64_param=7), "parameters[sequence_id]"),
        (with_parameter("sequence_start", bool_param=True), "parameters[sequence_start]"),
        (
            Infer(
                inputs=[
                    Infer.InferInputTensor(
                        parameters={"shared_memory_region": pb.InferParameter(string_param="r")}
                    )
                ]
            ),
            "inputs[0].parameters[shared_memory_region]",
        ),
        (
            Infer(
                outputs=[
                    Infer.InferRequestedOutputTensor(),
                    Infer.InferRequestedOutputTensor(
                        parameters={"classification": pb.InferParameter(int64_param=3)}
                    ),
                ]
            ),
            "outputs[1].parameters[classification]",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(request_: Infer, field: str) -> None:
    with pytest.raises(StepwireError) as raised:
        decode_options(request_)
    assert raised.value.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in raised.value.faults] == [field]
