"""JSON values to payloads and back."""

from typing import Any

import orjson

from stepwire.api.common.v1.payload_pb2 import Payload
from stepwire.payload import JSON, value_to_json


def to_payload(value: Any) -> Payload:
    """Returns a JSON value as a payload.

    Raises:
        TypeError: It is not a JSON value.
    """
    return Payload(data=orjson.dumps(value), content_type=JSON)


def from_payload(payload: Payload) -> Any:
    """Returns a payload's JSON value; data that is not JSON is returned as bytes."""
    if payload.WhichOneof("value") == "json":
        return value_to_json(payload.json)
    if payload.content_type in ("", JSON):
        return orjson.loads(payload.data) if payload.data else None
    return payload.data
