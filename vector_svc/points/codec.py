"""Between the messages of PointService and its records."""

from collections.abc import Iterable

import orjson

from stepwire.api.vector.v1 import point_pb2 as pb
from stepwire.payload import json_to_struct
from vector_svc.engine.payloads import read_payload
from vector_svc.engine.records import PointDraft, StoredPoint


def drafts_of(points: Iterable[pb.Point], *, payload_max_bytes: int) -> list[PointDraft]:
    """Read points that are to be written.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    return [
        PointDraft(
            id=point.id,
            vector=point.vector,
            payload=read_payload(
                point.payload, field=f"points[{index}].payload", limit_bytes=payload_max_bytes
            ),
        )
        for index, point in enumerate(points)
    ]


def write_point(point: StoredPoint, into: pb.Point) -> None:
    """Fill in a point."""
    into.id = point.id
    json_to_struct(orjson.loads(point.payload), into.payload)
    if point.vector is not None:
        into.vector = point.vector
