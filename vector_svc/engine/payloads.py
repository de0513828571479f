"""Payloads and filters: protobuf structs on the wire, JSON text inside."""

from collections.abc import Iterable
from typing import Any, Final

import orjson
from google.protobuf.struct_pb2 import Struct

from stepwire.errors import field_invalid, payload_too_large
from stepwire.payload import struct_to_json

# As `stepwire.payload` has it for structs.
MAX_DEPTH: Final = 64

_ESCAPED_NUL = b"\\u0000"


def read_payload(struct: Struct, *, field: str, limit_bytes: int) -> bytes:
    """Turn a struct into the JSON text of an object that Postgres can store.

    Raises:
        StepwireError: PAYLOAD_TOO_LARGE beyond `limit_bytes`; FIELD_INVALID for NaN,
            infinity, the character U+0000, or nesting beyond 64 levels. All name `field`.
    """
    value = struct_to_json(struct, field=field)
    data = orjson.dumps(value)
    if len(data) > limit_bytes:
        raise payload_too_large(field, size_bytes=len(data), limit_bytes=limit_bytes)
    # The escape may also be an escaped backslash before "u0000", so only suspect it here.
    if _ESCAPED_NUL in data and _holds_nul(value):
        raise field_invalid(field, "must not hold the character U+0000")
    return data


def read_filter(struct: Struct, *, field: str, limit_bytes: int) -> bytes | None:
    """Turn a filter into JSON text; None if it is empty, since every payload contains that.

    Raises:
        StepwireError: As `read_payload`.
    """
    if not struct.fields:
        return None
    return read_payload(struct, field=field, limit_bytes=limit_bytes)


def check_depth(data: bytes, *, field: str) -> None:
    """Check that JSON text is not nested beyond what a struct can hold.

    Raises:
        StepwireError: FIELD_INVALID, which names `field`; also if it is not JSON.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise field_invalid(field, "is not JSON") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for part in level for item in _items(part)]
        if not level:
            return
    raise field_invalid(field, f"is nested beyond {MAX_DEPTH} levels")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))
