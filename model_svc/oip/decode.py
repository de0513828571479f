"""ModelInfer requests to tensors, checked against what the model says of itself."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from model_svc.faults import input_invalid, tensor_invalid
from model_svc.oip.byte_strings import bytes_tensor, decode_bytes
from model_svc.repository.served import ServedModel
from model_svc.tensors import BYTES, DTYPES, Tensor, TensorSpec
from stepwire.api.inference import open_inference_pb2 as pb

_Input = pb.ModelInferRequest.InferInputTensor

# The field of `contents` that holds a datatype's elements; FP16 and BF16 only have raw
# contents.
_CONTENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BOOL": "bool_contents",
        "UINT8": "uint_contents",
        "UINT16": "uint_contents",
        "UINT32": "uint_contents",
        "UINT64": "uint64_contents",
        "INT8": "int_contents",
        "INT16": "int_contents",
        "INT32": "int_contents",
        "INT64": "int64_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
        BYTES: "bytes_contents",
    }
)


class _Given(NamedTuple):
    """An input of a request, and its raw contents if the request has such."""

    tensor: _Input
    raw: bytes | None


def decode_inputs(request: pb.ModelInferRequest, served: ServedModel) -> dict[str, Tensor]:
    """Returns the tensors of a request by name.

    Fixed-width raw contents are not copied: the tensors are views of the request.

    Raises:
        StepwireError: MODEL_INPUT_INVALID, naming the tensor if it is about one.
    """
    model = served.name
    specs = {spec.name: spec for spec in served.inputs}
    sizes: dict[str, int] = {}
    decoded: dict[str, Tensor] = {}
    for given in _given(request, model):
        name = given.tensor.name
        if name not in specs:
            raise tensor_invalid(
                model, name, f"the model has no such input; it has {', '.join(specs)}"
            )
        if name in decoded:
            raise tensor_invalid(model, name, "is given twice")
        _check_shape(given.tensor, specs[name], sizes, model)
        decoded[name] = _decode(given, model)
    _check_set(decoded, served)
    _check_rows(decoded, served)
    return decoded


def decode_outputs(request: pb.ModelInferRequest, served: ServedModel) -> list[TensorSpec]:
    """Returns the outputs that are wanted, in the order asked for; all if none is named.

    Raises:
        StepwireError: MODEL_INPUT_INVALID, if the model does not give one of them.
    """
    specs = {spec.name: spec for spec in served.outputs}
    if not request.outputs:
        return list(specs.values())
    for output in request.outputs:
        if output.name not in specs:
            raise tensor_invalid(
                served.name,
                output.name,
                f"the model has no such output; it has {', '.join(specs)}",
            )
    return [specs[output.name] for output in request.outputs]


def _given(request: pb.ModelInferRequest, model: str) -> list[_Given]:
    raws = request.raw_input_contents
    if not raws:
        return [_Given(tensor, None) for tensor in request.inputs]
    if len(raws) != len(request.inputs):
        raise input_invalid(
            model,
            f"raw_input_contents has {len(raws)} entries for {len(request.inputs)} inputs",
        )
    for tensor in request.inputs:
        if tensor.HasField("contents"):
            raise tensor_invalid(
                model, tensor.name, "contents must be unset beside raw_input_contents"
            )
    return [_Given(tensor, raw) for tensor, raw in zip(request.inputs, raws, strict=True)]


def _check_shape(tensor: _Input, spec: TensorSpec, sizes: dict[str, int], model: str) -> None:
    """Checks datatype and shape; `sizes` holds the variable sizes seen so far."""
    if tensor.datatype != spec.datatype:
        raise tensor_invalid(
            model, spec.name, f"datatype is {tensor.datatype!r}, must be {spec.datatype}"
        )
    shape = list(tensor.shape)
    fits = len(shape) == len(spec.shape) and all(
        size >= 0 and (isinstance(wanted, str) or size == wanted)
        for size, wanted in zip(shape, spec.shape, strict=False)
    )
    if not fits:
        raise tensor_invalid(model, spec.name, f"shape is {shape}, must be {spec.wire_shape}")
    for size, wanted in zip(shape, spec.shape, strict=True):
        if isinstance(wanted, str) and wanted and sizes.setdefault(wanted, size) != size:
            raise tensor_invalid(
                model,
                spec.name,
                f"shape is {shape}, but {wanted} is {sizes[wanted]} in another input",
            )


def _decode(given: _Given, model: str) -> Tensor:
    tensor, count = given.tensor, math.prod(given.tensor.shape)
    if tensor.datatype == BYTES:
        flat = _byte_strings(given, model)
    elif given.raw is not None:
        flat = _raw(tensor, given.raw, count, model)
    else:
        flat = _typed(tensor, model)
    if len(flat) != count:
        raise tensor_invalid(
            model,
            tensor.name,
            f"has {len(flat)} elements, its shape {list(tensor.shape)} says {count}",
        )
    try:
        return flat.reshape(tuple(tensor.shape))
    except ValueError as error:
        # One size is 0, and the others have a product that no array may have.
        raise tensor_invalid(
            model, tensor.name, f"shape {list(tensor.shape)} is too large, even without elements"
        ) from error


def _raw(tensor: _Input, raw: bytes, count: int, model: str) -> Tensor:
    dtype = DTYPES[tensor.datatype]
    if len(raw) != count * dtype.itemsize:
        raise tensor_invalid(
            model,
            tensor.name,
            f"raw contents are {len(raw)} bytes, must be {count * dtype.itemsize} for "
            f"{tensor.datatype} of shape {list(tensor.shape)}",
        )
    return np.frombuffer(raw, dtype=dtype)


def _byte_strings(given: _Given, model: str) -> Tensor:
    if given.raw is None:
        return bytes_tensor(list(given.tensor.contents.bytes_contents))
    try:
        return bytes_tensor(decode_bytes(given.raw))
    except ValueError as error:
        raise tensor_invalid(model, given.tensor.name, str(error)) from error


def _typed(tensor: _Input, model: str) -> Tensor:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise tensor_invalid(model, tensor.name, f"{tensor.datatype} has only raw contents")
    try:
        return np.array(list(getattr(tensor.contents, field)), dtype=DTYPES[tensor.datatype])
    except OverflowError as error:
        raise tensor_invalid(
            model, tensor.name, f"{field} has a value outside {tensor.datatype}"
        ) from error


def _check_set(decoded: Mapping[str, Tensor], served: ServedModel) -> None:
    sets: Sequence[frozenset[str]] = served.model.input_sets
    if decoded.keys() in sets:
        return
    for name in (spec.name for spec in served.inputs):
        if len(sets) == 1 and name not in decoded:
            raise tensor_invalid(served.name, name, "is missing")
    choices = " or ".join("{" + ", ".join(sorted(names)) + "}" for names in sets)
    raise input_invalid(
        served.name, f"inputs are {{{', '.join(sorted(decoded))}}}, must be {choices}"
    )


def _check_rows(decoded: Mapping[str, Tensor], served: ServedModel) -> None:
    """Checks the batch dimension of a model that has one."""
    if not served.max_rows:
        return
    rows = {len(tensor) for tensor in decoded.values()}
    if len(rows) > 1:
        raise input_invalid(served.name, f"inputs have {sorted(rows)} rows, must have the same")
    if max(rows, default=0) > served.max_rows:
        raise input_invalid(
            served.name, f"inputs have {rows.pop()} rows, must have at most {served.max_rows}"
        )
