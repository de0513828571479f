"""The calls of PointService: decode, one call into the domain, encode."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc.aio

from stepwire.api.vector.v1 import filter_pb2
from stepwire.api.vector.v1 import point_service_pb2 as pb
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceServicer
from stepwire.call import current_call
from vector_svc.points import codec
from vector_svc.points.bulk import BulkUpserts, Columns
from vector_svc.points.points import Points
from vector_svc.points.records import Selection

Context = grpc.aio.ServicerContext[Any, Any]

# From this many points on, decoding would hold up other calls for milliseconds.
MANY_POINTS: Final = 256


class PointServicer(PointServiceServicer):
    """See protos/stepwire/api/vector/v1/point_service.proto."""

    def __init__(self, points: Points, bulk: BulkUpserts, *, payload_max_bytes: int) -> None:
        self._points = points
        self._bulk = bulk
        self._payload_max_bytes = payload_max_bytes
        self._drafts_of = partial(codec.drafts_of, payload_max_bytes=payload_max_bytes)

    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest, context: Context
    ) -> pb.UpsertPointsResponse:
        mode = codec.mode_of(request.mode)
        if len(request.points) < MANY_POINTS:
            drafts = self._drafts_of(request.points)
        else:
            drafts = await asyncio.to_thread(self._drafts_of, request.points)
        written = await self._points.upsert(
            current_call().tenant_id, request.collection, drafts, mode
        )
        return pb.UpsertPointsResponse(
            upserted=written.upserted, inserted=written.inserted, updated=written.updated
        )

    async def BulkUpsertPoints(
        self, request_iterator: AsyncIterator[pb.BulkUpsertPointsRequest], context: Context
    ) -> pb.BulkUpsertPointsResponse:
        written = await self._bulk.run(current_call().tenant_id, _columns(request_iterator))
        return pb.BulkUpsertPointsResponse(
            upserted=written.upserted, inserted=written.inserted, updated=written.updated
        )

    async def GetPoints(
        self, request: pb.GetPointsRequest, context: Context
    ) -> pb.GetPointsResponse:
        found = await self._points.get(
            current_call().tenant_id,
            request.collection,
            list(request.ids),
            include_vectors=request.include_vectors,
            include_hashes=request.include_hashes,
        )
        response = pb.GetPointsResponse()
        for point in found:
            codec.write_point(point, response.points.add())
        return response

    async def DeletePoints(
        self, request: pb.DeletePointsRequest, context: Context
    ) -> pb.DeletePointsResponse:
        deleted = await self._points.delete(
            current_call().tenant_id, request.collection, self._selection_of(request)
        )
        return pb.DeletePointsResponse(deleted=deleted)

    async def UpdatePayloads(
        self, request: pb.UpdatePayloadsRequest, context: Context
    ) -> pb.UpdatePayloadsResponse:
        updated = await self._points.update_payloads(
            current_call().tenant_id,
            request.collection,
            self._selection_of(request),
            codec.change_of(request, payload_max_bytes=self._payload_max_bytes),
        )
        return pb.UpdatePayloadsResponse(updated=updated)

    async def ScrollPoints(
        self, request: pb.ScrollPointsRequest, context: Context
    ) -> pb.ScrollPointsResponse:
        found, token = await self._points.scroll(
            current_call().tenant_id,
            request.collection,
            self._filtered(request.filter),
            page_size=request.page_size,
            page_token=request.page_token,
            include_vectors=request.include_vectors,
        )
        response = pb.ScrollPointsResponse(next_page_token=token)
        for point in found:
            codec.write_point(point, response.points.add())
        return response

    async def CountPoints(
        self, request: pb.CountPointsRequest, context: Context
    ) -> pb.CountPointsResponse:
        count = await self._points.count(
            current_call().tenant_id,
            request.collection,
            self._filtered(request.filter),
            at_most=request.at_most,
        )
        return pb.CountPointsResponse(count=count)

    async def FacetPoints(
        self, request: pb.FacetPointsRequest, context: Context
    ) -> pb.FacetPointsResponse:
        facets = await self._points.facet(
            current_call().tenant_id,
            request.collection,
            self._filtered(request.filter),
            field=request.field,
            limit=request.limit,
        )
        response = pb.FacetPointsResponse()
        for facet in facets:
            codec.write_facet(facet, response.facets.add())
        return response

    def _selection_of(
        self, request: pb.DeletePointsRequest | pb.UpdatePayloadsRequest
    ) -> Selection:
        return codec.selection_of(
            request.ids,
            request.filter if request.HasField("filter") else None,
            filter_max_bytes=self._payload_max_bytes,
        )

    def _filtered(self, filter_: filter_pb2.Filter) -> Selection:
        return codec.filtered(filter_, filter_max_bytes=self._payload_max_bytes)


async def _columns(messages: AsyncIterator[pb.BulkUpsertPointsRequest]) -> AsyncIterator[Columns]:
    async for message in messages:
        expires_at = None
        if message.HasField("expire_time"):
            expires_at = codec.time_of(message.expire_time, field="expire_time")
        yield Columns(
            collection=message.collection,
            ids=list(message.ids),
            vectors=message.vectors,
            payloads=list(message.payloads),
            expires_at=expires_at,
        )
