"""Tensors between the arrays of JSON and raw contents."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from model_svc.oip.byte_strings import bytes_tensor, decode_bytes, encode_bytes
from model_svc.tensors import BF16, BYTES, DTYPES, Tensor

# JSON has no such numbers; protobuf's JSON writes them like this, too.
_ODD: Final[Mapping[str, float]] = MappingProxyType(
    {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
)
_HALF_WORD: Final = 16


def raw_contents(datatype: str, data: list[Any]) -> bytes:
    """Returns the raw contents of a tensor whose elements are given row by row, or flat.

    Raises:
        ValueError: An element is not of the datatype; says what elements must be.
    """
    flat = list(_flat(data))
    if datatype == BYTES:
        return encode_bytes(bytes_tensor([_text(element) for element in flat]))
    if datatype not in DTYPES:
        raise ValueError("of a datatype that exists")
    if datatype == "BOOL":
        _check(flat, {bool}, "true or false")
        return np.array(flat, dtype=DTYPES[datatype]).tobytes()
    if datatype == BF16 or DTYPES[datatype].kind == "f":
        return _floats(datatype, flat).tobytes()
    _check(flat, {int}, "whole numbers")
    try:
        return np.array(flat, dtype=DTYPES[datatype]).tobytes()
    except OverflowError:
        raise ValueError(f"numbers that {datatype} has") from None


def json_data(datatype: str, raw: bytes) -> list[Any]:
    """Returns the elements of raw contents, flat, as JSON has them.

    Raises:
        UnicodeDecodeError: An element of a BYTES tensor is no text.
    """
    if datatype == BYTES:
        return [element.decode() for element in decode_bytes(raw)]
    tensor: Tensor = np.frombuffer(raw, dtype=DTYPES[datatype])
    if datatype == BF16:
        tensor = (tensor.astype(np.uint32) << _HALF_WORD).view(np.float32)
    values = list(tensor.tolist())
    if tensor.dtype.kind != "f" or np.isfinite(tensor).all():
        return values
    return [value if math.isfinite(value) else _odd(value) for value in values]


def _flat(data: list[Any]) -> Iterator[Any]:
    """The elements of arrays in arrays, however deep."""
    open_arrays = [iter(data)]
    while open_arrays:
        for element in open_arrays[-1]:
            if isinstance(element, list):
                open_arrays.append(iter(element))
                break
            yield element
        else:
            open_arrays.pop()


def _floats(datatype: str, flat: list[Any]) -> Tensor:
    _check(flat, {int, float, str}, "numbers")
    try:
        wide = np.array(
            [_ODD[value] if isinstance(value, str) else float(value) for value in flat],
            dtype=np.float64,
        )
    except (KeyError, OverflowError):
        raise ValueError(f"numbers, or one of {', '.join(_ODD)}") from None
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32 if datatype == BF16 else DTYPES[datatype])
    if datatype == BF16:
        narrow = _bfloat16(narrow)
        infinite = (narrow & 0x7FFF) == 0x7F80  # noqa: PLR2004  (its exponent all ones)
    else:
        infinite = np.isinf(narrow)
    if (infinite & ~np.isinf(wide)).any():
        raise ValueError(f"numbers that {datatype} has")
    return narrow


def _bfloat16(tensor: Tensor) -> Tensor:
    """The upper halves of float32 values, rounded to the nearest, ties to even."""
    bits = tensor.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> _HALF_WORD) & 1)) >> _HALF_WORD
    return np.where(np.isnan(tensor), 0x7FC0, rounded).astype(DTYPES[BF16])


def _check(flat: list[Any], types: set[type], wanted: str) -> None:
    if not {type(element) for element in flat} <= types:
        raise ValueError(wanted)


def _text(element: Any) -> bytes:
    if not isinstance(element, str):
        raise ValueError("texts")  # noqa: TRY004  (the caller's fault, not the code's)
    try:
        return element.encode()
    except UnicodeEncodeError:
        raise ValueError("texts of Unicode characters") from None


def _odd(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
