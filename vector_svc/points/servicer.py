"""The calls of PointService: decode, one call into the domain, encode."""

import asyncio
from functools import partial
from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import point_service_pb2 as pb
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceServicer
from stepwire.call import current_call
from vector_svc.points import codec
from vector_svc.points.points import Points

Context = grpc.aio.ServicerContext[Any, Any]

# From this many points on, decoding would hold up other calls for milliseconds.
MANY_POINTS = 256


class PointServicer(PointServiceServicer):
    """See protos/stepwire/api/vector/v1/point_service.proto."""

    def __init__(self, points: Points, *, payload_max_bytes: int) -> None:
        self._points = points
        self._drafts_of = partial(codec.drafts_of, payload_max_bytes=payload_max_bytes)

    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest, context: Context
    ) -> pb.UpsertPointsResponse:
        if len(request.points) < MANY_POINTS:
            drafts = self._drafts_of(request.points)
        else:
            drafts = await asyncio.to_thread(self._drafts_of, request.points)
        upserted = await self._points.upsert(current_call().tenant_id, request.collection, drafts)
        return pb.UpsertPointsResponse(upserted=upserted)

    async def GetPoints(
        self, request: pb.GetPointsRequest, context: Context
    ) -> pb.GetPointsResponse:
        found = await self._points.get(
            current_call().tenant_id,
            request.collection,
            list(request.ids),
            include_vectors=request.include_vectors,
        )
        response = pb.GetPointsResponse()
        for point in found:
            codec.write_point(point, response.points.add())
        return response

    async def DeletePoints(
        self, request: pb.DeletePointsRequest, context: Context
    ) -> pb.DeletePointsResponse:
        deleted = await self._points.delete(
            current_call().tenant_id, request.collection, list(request.ids)
        )
        return pb.DeletePointsResponse(deleted=deleted)
