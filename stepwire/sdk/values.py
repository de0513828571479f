"""Python's values to those of the protos, and back."""

from datetime import datetime, timedelta
from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

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


def to_duration(value: timedelta | None) -> Duration | None:
    """Returns a span of time as a message; None stays None."""
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def to_timestamp(value: datetime | None) -> Timestamp | None:
    """Returns a time as a message; None stays None.

    Raises:
        ValueError: It has no time zone, so that nobody can say which time is meant.
    """
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(value)
    return timestamp
