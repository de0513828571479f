"""The parameters of a ModelInfer request."""

from dataclasses import dataclass
from typing import Final

from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import field_invalid

_MICROSECONDS: Final = 1_000_000
# Of priorities and timeouts; as microseconds, 8 years.
_MAX_WHOLE: Final = 1 << 48

# What Triton has and this server has not: to ignore it would give wrong answers.
_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY: Final = "shared_memory_"
_CLASSIFICATION: Final = "classification"


@dataclass(frozen=True, slots=True)
class Options:
    """How a request is to be carried out.

    Attributes:
        priority: From 1, the highest; 0 for the model's default.
        timeout_seconds: How long it may wait for a run; None for the model's default.
        timings: Whether the response tells where its time went.
        final_mark: Whether the response says that it is the last one of its request.
    """

    priority: int = 0
    timeout_seconds: float | None = None
    timings: bool = False
    final_mark: bool = False


def decode_options(request: pb.ModelInferRequest) -> Options:
    """Returns what the parameters ask for; those that are not known are ignored.

    Raises:
        StepwireError: FIELD_INVALID: one has no value, a value that is not possible, or
            asks for what this server does not do.
    """
    for name, parameter in request.parameters.items():
        if parameter.WhichOneof("parameter_choice") is None:
            raise field_invalid(f"parameters[{name}]", "must have a value")
        if name in _SEQUENCES and _value(parameter) not in (0, "", False):
            raise field_invalid(f"parameters[{name}]", "sequences are not supported")
    for index, tensor in enumerate(request.inputs):
        _check_tensor(f"inputs[{index}]", tensor)
    for index, output in enumerate(request.outputs):
        _check_tensor(f"outputs[{index}]", output)
    microseconds = _whole(request, "timeout")
    return Options(
        priority=_whole(request, "priority"),
        timeout_seconds=microseconds / _MICROSECONDS if microseconds else None,
        timings=_truth(request, "stepwire_timings"),
        final_mark=_truth(request, "triton_enable_empty_final_response"),
    )


def _check_tensor(
    field: str,
    tensor: pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor,
) -> None:
    for name in tensor.parameters:
        if name.startswith(_SHARED_MEMORY):
            raise field_invalid(f"{field}.parameters[{name}]", "shared memory is not supported")
        if name == _CLASSIFICATION:
            raise field_invalid(f"{field}.parameters[{name}]", "classification is not supported")


def _whole(request: pb.ModelInferRequest, name: str) -> int:
    if name not in request.parameters:
        return 0
    parameter = request.parameters[name]
    value = _value(parameter)
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in {"int64_param", "uint64_param"} or not 0 <= int(value) <= _MAX_WHOLE:
        raise field_invalid(f"parameters[{name}]", f"must be a whole number from 0 to {_MAX_WHOLE}")
    return int(value)


def _truth(request: pb.ModelInferRequest, name: str) -> bool:
    if name not in request.parameters:
        return False
    value = _value(request.parameters[name])
    if not isinstance(value, bool):
        raise field_invalid(f"parameters[{name}]", "must be a truth value")
    return value


def _value(parameter: pb.InferParameter) -> bool | int | str | float:
    value: bool | int | str | float = getattr(
        parameter, parameter.WhichOneof("parameter_choice") or "int64_param"
    )
    return value
