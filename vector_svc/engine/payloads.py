"""Payloads and filters: protobuf structs on the wire, JSON text inside."""

import re
from typing import Any, Final

import orjson
from google.protobuf.struct_pb2 import Struct

from stepwire.errors import field_invalid, payload_too_large
from stepwire.payload import MAX_NESTING, nesting, struct_to_json

_ESCAPED_NUL = b"\\u0000"
# A number may be beyond float64 if it has an exponent of three digits, or so many digits.
_MAYBE_HUGE: Final = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{300}")


def read_payload(struct: Struct, *, field: str, limit_bytes: int) -> bytes:
    """Turn a struct into the JSON text of an object that Postgres can store.

    Raises:
        StepwireError: PAYLOAD_TOO_LARGE beyond `limit_bytes`; FIELD_INVALID for NaN,
            infinity, the character U+0000, or nesting beyond 32 levels. All name `field`.
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


def check_json(data: bytes, *, field: str) -> None:
    """Check that JSON text holds nothing that a struct cannot.

    Postgres says of the rest whether it is JSON at all: what cannot be at fault here is not
    read, since that would cost bulk writes more than all else.

    Raises:
        StepwireError: FIELD_INVALID, which names `field`, for numbers beyond float64 and
            nesting beyond 32 levels; also if it is not JSON.
    """
    deep = data.count(b"[") + data.count(b"{") > MAX_NESTING
    if not deep and not _MAYBE_HUGE.search(data):
        return
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise field_invalid(field, f"is not JSON that can be stored: {error}") from None
    if nesting(value) > MAX_NESTING:
        raise field_invalid(field, f"is nested deeper than {MAX_NESTING} levels")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))
