"""Steps that write and search the vector service's collections."""

import base64
import binascii
from typing import Any

from executor_svc.steps.answer import answer
from executor_svc.steps.kind import StepCall, StepError, input_error
from stepwire.api.vector.v1.point_service_pb2 import UpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceAsyncStub
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceAsyncStub
from stepwire.payload import json_to_struct, struct_to_json


class UpsertKind:
    """See `UpsertStep` in graph.proto."""

    def __init__(self, points: PointServiceAsyncStub) -> None:
        self._points = points

    async def run(self, call: StepCall) -> Any:
        if not isinstance(call.value, list):
            raise input_error('must be a list of {"id", "vector", "payload"}')
        request = UpsertPointsRequest(collection=call.spec.collection)
        for place, point in enumerate(call.value):
            if not isinstance(point, dict) or not isinstance(point.get("id"), str):
                raise input_error(f'[{place}] must be an object with a text "id"')
            written = request.points.add(id=point["id"])
            written.vector = _vector(point.get("vector"), f"[{place}].vector")
            payload = point.get("payload", {})
            if not isinstance(payload, dict):
                raise input_error(f"[{place}].payload must be an object")
            json_to_struct(payload, written.payload)
        response = await answer(self._points.UpsertPoints(request), service="vector")
        return {"upserted": response.upserted}


class SearchKind:
    """See `SearchStep` in graph.proto."""

    def __init__(self, searches: SearchServiceAsyncStub) -> None:
        self._searches = searches

    async def run(self, call: StepCall) -> Any:
        query = call.value if isinstance(call.value, dict) else {"vector": call.value}
        request = SearchPointsRequest(
            collection=call.spec.collection,
            vector=_vector(query.get("vector"), "vector"),
            limit=call.spec.limit,
        )
        wanted = query.get("filter")
        if wanted is not None:
            if not isinstance(wanted, dict):
                raise input_error("filter must be an object")
            json_to_struct(wanted, request.filter.must.add().contains)
        response = await answer(self._searches.SearchPoints(request), service="vector")
        return [
            {
                "id": found.point.id,
                "score": found.score,
                "payload": struct_to_json(found.point.payload),
            }
            for found in response.points
        ]


def _vector(text: Any, field: str) -> bytes:
    """Read a vector from its base64 text."""
    if not isinstance(text, str):
        raise input_error(f"{field} must be a vector as base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        fault: StepError = input_error(f"{field} is not base64")
        raise fault from None
