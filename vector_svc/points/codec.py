"""Between the messages of PointService and its records."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.api.vector.v1 import filter_pb2, point_pb2
from stepwire.api.vector.v1 import point_service_pb2 as pb
from stepwire.errors import field_invalid
from stepwire.payload import json_to_struct
from vector_svc.engine.fields import check_ids
from vector_svc.engine.payloads import read_payload
from vector_svc.engine.records import PointDraft, StoredPoint, UpsertMode
from vector_svc.filters.codec import filter_of
from vector_svc.points.records import ChangeKind, Facet, PayloadChange, Selection

MAX_TEXT_CHARACTERS: Final = 100_000
MAX_NAMES: Final = 1_000

_MODES: Final = {
    pb.UPSERT_MODE_UNSPECIFIED: UpsertMode.UPSERT,
    pb.UPSERT_MODE_UPSERT: UpsertMode.UPSERT,
    pb.UPSERT_MODE_INSERT_ONLY: UpsertMode.INSERT_ONLY,
    pb.UPSERT_MODE_UPDATE_ONLY: UpsertMode.UPDATE_ONLY,
}


def mode_of(number: int) -> UpsertMode:
    """Read a mode.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    mode = _MODES.get(number)  # type: ignore[call-overload]
    if mode is None:
        raise field_invalid("mode", f"{number} is not a mode")
    return UpsertMode(mode)


def drafts_of(points: Sequence[point_pb2.Point], *, payload_max_bytes: int) -> list[PointDraft]:
    """Read points that are to be written.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    return [
        PointDraft(
            id=point.id,
            vector=_vector_of(point, index),
            payload=read_payload(
                point.payload, field=f"points[{index}].payload", limit_bytes=payload_max_bytes
            ),
            text=point.text,
            content_hash=point.content_hash,
            expires_at=_expiry(point, index),
        )
        for index, point in enumerate(points)
    ]


def time_of(message: Timestamp, *, field: str) -> datetime:
    """Read a time.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (OverflowError, ValueError):
        raise field_invalid(field, "is not a time") from None


def selection_of(
    ids: Iterable[str], filter_: filter_pb2.Filter | None, *, filter_max_bytes: int
) -> Selection:
    """Read which points are meant: by their ids or by a filter.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    wanted = list(ids)
    if filter_ is None:
        check_ids(wanted, field="ids")
        return Selection(ids=wanted)
    if wanted:
        raise field_invalid("filter", "must not be set beside ids")
    return Selection(filter=filter_of(filter_, field="filter", max_bytes=filter_max_bytes))


def filtered(filter_: filter_pb2.Filter, *, filter_max_bytes: int) -> Selection:
    """Read a filter that may be left out: every point then.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    return Selection(filter=filter_of(filter_, field="filter", max_bytes=filter_max_bytes))


def change_of(message: pb.UpdatePayloadsRequest, *, payload_max_bytes: int) -> PayloadChange:
    """Read a change of payloads.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    which = message.WhichOneof("change")
    if which is None:
        raise field_invalid("change", "is required: set, merge or remove")
    if which == "remove":
        names = list(message.remove.names)
        if not 1 <= len(names) <= MAX_NAMES:
            raise field_invalid("remove.names", f"must have 1 to {MAX_NAMES} entries")
        if any("\0" in name for name in names):
            raise field_invalid("remove.names", "must not hold the character U+0000")
        return PayloadChange(ChangeKind.REMOVE, names=names)
    struct = message.set if which == "set" else message.merge
    payload = read_payload(struct, field=which, limit_bytes=payload_max_bytes)
    return PayloadChange(ChangeKind(which), payload=payload)


def write_point(
    point: StoredPoint,
    into: point_pb2.Point,
    select: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Fill in a point, with what `select` returns of its payload; None for all."""
    into.id = point.id
    payload = orjson.loads(point.payload or b"{}")
    json_to_struct(payload if select is None else select(payload), into.payload)
    if point.vector is not None:
        into.vector = point.vector
    if point.content_hash:
        into.content_hash = point.content_hash
    if point.expires_at is not None:
        into.expire_time.FromDatetime(point.expires_at)


def write_facet(facet: Facet, into: pb.FacetCount) -> None:
    """Fill in a value and its count."""
    value = orjson.loads(facet.value)
    if isinstance(value, bool):
        into.value.bool_value = value
    elif isinstance(value, str):
        into.value.string_value = value
    else:
        into.value.number_value = value
    into.count = facet.count


def _vector_of(point: point_pb2.Point, index: int) -> bytes:
    given = bool(point.vector) + bool(point.values) + bool(point.text)
    if given > 1:
        raise field_invalid(f"points[{index}].vector", "must stand alone: vector, values or text")
    if len(point.text) > MAX_TEXT_CHARACTERS:
        limit = f"must be at most {MAX_TEXT_CHARACTERS} characters"
        raise field_invalid(f"points[{index}].text", limit)
    if point.values:
        return np.asarray(point.values, dtype="<f4").tobytes()
    return point.vector


def _expiry(point: point_pb2.Point, index: int) -> datetime | None:
    if not point.HasField("expire_time"):
        return None
    return time_of(point.expire_time, field=f"points[{index}].expire_time")
