"""The bodies of an infer request and its response: JSON, perhaps with tensors behind it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from model_svc.faults import input_invalid, tensor_invalid
from model_svc.oip.http.json_tensors import json_data, raw_contents
from model_svc.oip.http.json_values import checked_object, json_value, read_object
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import field_invalid

_Input = pb.ModelInferRequest.InferInputTensor
_Output = pb.ModelInferRequest.InferRequestedOutputTensor
_Object = dict[str, Any]

_SIZE: Final = "binary_data_size"
_WANTED: Final = "binary_data"
_ALL_WANTED: Final = "binary_data_output"

_REQUEST: Final = MappingProxyType({"id": str, "parameters": dict, "inputs": list, "outputs": list})
_INPUT: Final = MappingProxyType(
    {"name": str, "shape": list, "datatype": str, "parameters": dict, "data": list}
)
_OUTPUT: Final = MappingProxyType({"name": str, "parameters": dict})
_MAX_INT64: Final = (1 << 63) - 1
_MAX_UINT64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class BinaryOutputs:
    """Which outputs are wanted as bytes behind the JSON.

    Attributes:
        by_default: Those of which nothing is said.
        by_name: Those of which something is said.
    """

    by_default: bool
    by_name: Mapping[str, bool]

    def wants(self, name: str) -> bool:
        """Tells whether an output is wanted as bytes."""
        return self.by_name.get(name, self.by_default)


def decode_infer(
    model: str, version: str, content: bytes, *, json_bytes: int | None
) -> tuple[pb.ModelInferRequest, BinaryOutputs]:
    """Returns the request of a body, with raw contents, and how its outputs are wanted.

    Args:
        model: Name of the model.
        version: Version of the model; may be empty.
        content: The body.
        json_bytes: Length of its JSON; None if it is all JSON.

    Raises:
        StepwireError: FIELD_INVALID, or MODEL_INPUT_INVALID about a tensor's elements.
    """
    if json_bytes is not None and not 0 <= json_bytes <= len(content):
        raise field_invalid("body", f"has {len(content)} bytes, its JSON is to have {json_bytes}")
    end = len(content) if json_bytes is None else json_bytes
    body = read_object("body", content[:end], _REQUEST)
    parameters = body.get("parameters", {})
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=body.get("id", ""))
    by_default = _pop_truth("body.parameters", parameters, _ALL_WANTED)
    _set_parameters("body.parameters", parameters, request.parameters)
    tail = _Tail(content, end)
    for index, given in enumerate(body.get("inputs", [])):
        _add_input(request, f"body.inputs[{index}]", given, tail)
    tail.check_end()
    by_name = {}
    for index, given in enumerate(body.get("outputs", [])):
        field = f"body.outputs[{index}]"
        output = checked_object(field, given, _OUTPUT)
        wanted = output.get("parameters", {})
        name = output.get("name", "")
        if _WANTED in wanted:
            by_name[name] = _pop_truth(f"{field}.parameters", wanted, _WANTED)
        added = request.outputs.add(name=name)
        _set_parameters(f"{field}.parameters", wanted, added.parameters)
    return request, BinaryOutputs(by_default, by_name)


def encode_infer(response: pb.ModelInferResponse, binary: BinaryOutputs) -> tuple[bytes, int]:
    """Returns the body of a response, and the length of its JSON.

    Raises:
        StepwireError: MODEL_INPUT_INVALID: an output's elements cannot be written as JSON.
    """
    tail: list[bytes] = []
    outputs = []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        output: _Object = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if binary.wants(tensor.name):
            output["parameters"] = {_SIZE: len(raw)}
            tail.append(raw)
        else:
            output["data"] = _json_data(response.model_name, tensor.name, tensor.datatype, raw)
        outputs.append(output)
    body: _Object = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        body["id"] = response.id
    if response.parameters:
        body["parameters"] = {
            name: next(iter(json_value(parameter).values()))
            for name, parameter in sorted(response.parameters.items())
        }
    text = json.dumps(body | {"outputs": outputs}, allow_nan=False).encode()
    return b"".join([text, *tail]), len(text)


class _Tail:
    """What stands behind the JSON, taken from the front."""

    def __init__(self, content: bytes, start: int) -> None:
        self._content = content
        self._at = start

    def take(self, field: str, size: object) -> bytes:
        left = len(self._content) - self._at
        if type(size) is not int or not 0 <= size <= left:
            raise field_invalid(field, f"must be a whole number of the {left} bytes that are left")
        self._at += size
        return self._content[self._at - size : self._at]

    def check_end(self) -> None:
        if self._at != len(self._content):
            raise field_invalid("body", f"has {len(self._content) - self._at} bytes too many")


def _add_input(request: pb.ModelInferRequest, field: str, given: object, tail: _Tail) -> None:
    tensor = checked_object(field, given, _INPUT)
    name, datatype = tensor.get("name", ""), tensor.get("datatype", "")
    parameters = tensor.get("parameters", {})
    if (_SIZE in parameters) == ("data" in tensor):
        raise field_invalid(f"{field}.data", f"must be given, or the parameter {_SIZE}")
    if _SIZE in parameters:
        raw = tail.take(f"{field}.parameters.{_SIZE}", parameters.pop(_SIZE))
    else:
        try:
            raw = raw_contents(datatype, tensor["data"])
        except ValueError as error:
            raise tensor_invalid(request.model_name, name, f"data must be {error}") from error
    added = request.inputs.add(name=name, datatype=datatype)
    _set_parameters(f"{field}.parameters", parameters, added.parameters)
    try:
        added.shape.extend(tensor.get("shape", []))
    except (TypeError, ValueError) as error:
        raise field_invalid(f"{field}.shape", "must be whole numbers") from error
    request.raw_input_contents.append(raw)


def _pop_truth(field: str, parameters: _Object, name: str) -> bool:
    value = parameters.pop(name, False)
    if not isinstance(value, bool):
        raise field_invalid(f"{field}.{name}", "must be true or false")
    return value


def _set_parameters(field: str, given: _Object, parameters: Any) -> None:
    for name, value in given.items():
        match value:
            case bool():
                parameters[name].bool_param = value
            case int() if -_MAX_INT64 <= value <= _MAX_INT64:
                parameters[name].int64_param = value
            case int() if 0 <= value <= _MAX_UINT64:
                parameters[name].uint64_param = value
            case float():
                parameters[name].double_param = value
            case str():
                parameters[name].string_param = value
            case _:
                raise field_invalid(f"{field}.{name}", "must be a truth value, number or text")


def _json_data(model: str, name: str, datatype: str, raw: bytes) -> list[Any]:
    try:
        return json_data(datatype, raw)
    except UnicodeDecodeError:
        raise input_invalid(
            model, f"output {name} is not UTF-8, so that JSON cannot have it: ask for binary_data"
        ) from None
