"""Messages of the vector service, made of plain values."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from stepwire.api.vector.v1.filter_pb2 import Condition, Filter
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.payload import json_to_struct


def point(point_id: str, vector: bytes, payload: Mapping[str, Any] | None = None) -> Point:
    """Makes a point; the vector is little-endian float32 values."""
    return Point(id=point_id, vector=vector, payload=_struct(payload))


def search_request(
    collection: str, vector: bytes, *, limit: int, containing: Mapping[str, Any] | None
) -> SearchPointsRequest:
    """Makes a search for the points nearest to a vector.

    Args:
        collection: Where.
        vector: Little-endian float32 values.
        limit: Number of points wanted.
        containing: What their payloads contain; None for anything.
    """
    return SearchPointsRequest(
        collection=collection, vector=vector, limit=limit, filter=_containing(containing)
    )


def _containing(data: Mapping[str, Any] | None) -> Filter | None:
    return None if data is None else Filter(must=[Condition(contains=_struct(data))])


def _struct(data: Mapping[str, Any] | None) -> Struct | None:
    if data is None:
        return None
    struct = Struct()
    json_to_struct(dict(data), struct)
    return struct
