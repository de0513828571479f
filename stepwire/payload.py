"""The one conversion between payloads on the wire and the bytes inside.

Inside Stepwire a payload is `(bytes, content type)`; JSON is kept as its UTF-8 text.
"""

import math
from typing import Any

import orjson
from google.protobuf.struct_pb2 import Struct, Value

from stepwire.api.common.v1.payload_pb2 import Payload
from stepwire.errors import StepwireError, field_invalid, payload_too_large

JSON = "application/json"
NULL = b"null"
# Protobuf reads messages nested 100 deep, and an object in an object is three of them.
MAX_NESTING = 32
MAX_EXACT_INTEGER = 2**53


def value_to_json(value: Value, *, field: str = "json", depth: int = 0) -> Any:
    """Turn a protobuf `Value` into a JSON value; whole numbers become integers.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`, for NaN, infinity or nesting beyond
            32 levels.
    """
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return _number(value.number_value, field)
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return struct_to_json(value.struct_value, field=field, depth=depth)
    if kind == "list_value":
        if depth >= MAX_NESTING:
            raise _too_deep(field)
        return [
            value_to_json(item, field=field, depth=depth + 1) for item in value.list_value.values
        ]
    return None


def struct_to_json(struct: Struct, *, field: str = "json", depth: int = 0) -> dict[str, Any]:
    """Turn a protobuf `Struct` into a JSON object; see `value_to_json`."""
    if depth >= MAX_NESTING:
        raise _too_deep(field)
    return {
        key: value_to_json(item, field=field, depth=depth + 1)
        for key, item in struct.fields.items()
    }


def json_to_value(data: Any, value: Value) -> None:
    """Write a JSON value into a protobuf `Value`."""
    if data is None:
        value.null_value = 0  # type: ignore[assignment]
    elif isinstance(data, bool):
        value.bool_value = data
    elif isinstance(data, int | float):
        value.number_value = data
    elif isinstance(data, str):
        value.string_value = data
    elif isinstance(data, dict):
        json_to_struct(data, value.struct_value)
    elif isinstance(data, list):
        value.list_value.SetInParent()
        for item in data:
            json_to_value(item, value.list_value.values.add())
    else:
        raise TypeError(f"{type(data).__name__} is not a JSON value")


def json_to_struct(data: dict[str, Any], struct: Struct) -> None:
    """Write a JSON object into a protobuf `Struct`."""
    if not data:
        struct.SetInParent()  # it is there, though it is empty
    fields = struct.fields
    for key, item in data.items():
        # Most are one of these two: a search writes dozens of them.
        kind = type(item)
        if kind is str:
            fields[key].string_value = item
        elif kind is int or kind is float:
            fields[key].number_value = item
        else:
            json_to_value(item, fields[key])


def encode(payload: Payload, *, field: str, limit_bytes: int) -> tuple[bytes, str]:
    """Turn a payload of a request into bytes and their content type.

    Raises:
        StepwireError: PAYLOAD_TOO_LARGE beyond `limit_bytes`, or FIELD_INVALID for data
            that is not the JSON it claims to be; both name `field`.
    """
    if payload.WhichOneof("value") == "json":
        if payload.content_type not in ("", JSON):
            raise field_invalid(f"{field}.content_type", f"must be {JSON} (or empty) with json")
        data = orjson.dumps(value_to_json(payload.json, field=f"{field}.json"))
        content_type = JSON
    else:
        data, content_type = payload.data, payload.content_type or JSON
        if content_type == JSON:
            data = data or NULL
            _check_json(data, field)
    if len(data) > limit_bytes:
        raise payload_too_large(field, size_bytes=len(data), limit_bytes=limit_bytes)
    return data, content_type


def decode(data: bytes, content_type: str, payload: Payload) -> None:
    """Write bytes into a payload for a response: JSON in its natural form.

    JSON that is nested deeper than protobuf reads stays as it is.
    """
    if content_type == JSON:
        value = orjson.loads(data)
        if not may_be_too_deep(data) or nesting(value) <= MAX_NESTING:
            json_to_value(value, payload.json)
            return
    payload.data, payload.content_type = data, content_type


def may_be_too_deep(data: bytes) -> bool:
    """Say whether JSON has enough lists and objects to be nested beyond 32 levels.

    Most has not, so that `nesting` need not go through it.
    """
    return data.count(b"[") + data.count(b"{") > MAX_NESTING


def _check_json(data: bytes, field: str) -> None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise field_invalid(f"{field}.data", f"is not valid JSON: {error}") from None
    if may_be_too_deep(data) and nesting(value) > MAX_NESTING:
        raise _too_deep(f"{field}.data")


def nesting(value: Any) -> int:
    """Count the levels of lists and objects in a JSON value."""
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, list | dict)]:
        levels += 1
        layer = [
            child for item in layer for child in (item.values() if isinstance(item, dict) else item)
        ]
    return levels


def _number(number: float, field: str) -> int | float:
    if not math.isfinite(number):
        raise field_invalid(field, "NaN and infinity are not JSON numbers")
    if number.is_integer() and abs(number) <= MAX_EXACT_INTEGER:
        return int(number)
    return number


def _too_deep(field: str) -> StepwireError:
    return field_invalid(field, f"is nested deeper than {MAX_NESTING} levels")
