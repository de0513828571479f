"""The calls of SearchService: decode, one call into the domain, encode."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc.aio

from stepwire.api.vector.v1 import search_service_pb2 as pb
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceServicer
from stepwire.call import current_call
from stepwire.errors import field_invalid
from stepwire.rpc.call_streams import CallStreams
from vector_svc.search import codec
from vector_svc.search.recall import MAX_LIMIT, Recalls
from vector_svc.search.search import Searches

DEFAULT_SAMPLES: Final = 100
MAX_SAMPLES: Final = 1_000
DEFAULT_TARGET: Final = 0.95

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["SearchService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(SearchServiceServicer):
    """See protos/stepwire/api/vector/v1/search_service.proto."""

    def __init__(
        self, searches: Searches, recalls: Recalls, *, filter_max_bytes: int, calls_per_stream: int
    ) -> None:
        self._searches = searches
        self._recalls = recalls
        self._filter_max_bytes = filter_max_bytes
        self.streams = CallStreams(
            f"{SERVICE_NAME}/SearchPoints",
            self._answer,
            lambda _, status: pb.StreamSearchPointsResponse(error=status),
            timeout_seconds=codec.timeout_of,
            at_once=calls_per_stream,
        )

    async def SearchPoints(
        self, request: pb.SearchPointsRequest, context: Context
    ) -> pb.SearchPointsResponse:
        response = pb.SearchPointsResponse()
        await self._search(request, response)
        return response

    async def StreamSearchPoints(  # type: ignore[override]  # it writes its answers itself
        self, request_iterator: AsyncIterator[pb.StreamSearchPointsRequest], context: Context
    ) -> None:
        await self.streams.serve(request_iterator, context)

    async def BatchSearchPoints(
        self, request: pb.BatchSearchPointsRequest, context: Context
    ) -> pb.BatchSearchPointsResponse:
        searches = codec.searches_of(request, filter_max_bytes=self._filter_max_bytes)
        found = await self._searches.batch(current_call().tenant_id, request.collection, searches)
        response = pb.BatchSearchPointsResponse()
        for search, results in zip(searches, found, strict=True):
            codec.write_results(results, search.payload, response.results.add())
        return response

    async def SearchGroups(
        self, request: pb.SearchGroupsRequest, context: Context
    ) -> pb.SearchGroupsResponse:
        search, path, size = codec.groups_of(request, filter_max_bytes=self._filter_max_bytes)
        results, groups = await self._searches.groups(
            current_call().tenant_id, request.collection, search, by=path, size=size
        )
        response = pb.SearchGroupsResponse()
        for value, found in groups:
            codec.write_group(value, found, response.groups.add())
        codec.write_report(results.report, response.report)
        return response

    async def MeasureRecall(
        self, request: pb.MeasureRecallRequest, context: Context
    ) -> pb.MeasureRecallResponse:
        for name, value, most in (
            ("limit", request.limit, MAX_LIMIT),
            ("samples", request.samples, MAX_SAMPLES),
            ("target_recall", request.target_recall, 1),
        ):
            if not 0 <= value <= most:
                raise field_invalid(name, f"must be from 0 to {most}")
        recall = await self._recalls.measure(
            current_call().tenant_id,
            request.collection,
            limit=request.limit,
            samples=request.samples or DEFAULT_SAMPLES,
            target=request.target_recall or DEFAULT_TARGET,
            points=request.use_points,
        )
        response = pb.MeasureRecallResponse()
        codec.write_recall(recall, response)
        return response

    async def _answer(self, message: pb.StreamSearchPointsRequest) -> pb.StreamSearchPointsResponse:
        response = pb.StreamSearchPointsResponse()
        await self._search(message.search, response.found, field="search.")
        return response

    async def _search(
        self, request: pb.SearchPointsRequest, into: pb.SearchPointsResponse, *, field: str = ""
    ) -> None:
        search = codec.search_of(request, filter_max_bytes=self._filter_max_bytes, field=field)
        results = await self._searches.search(current_call().tenant_id, request.collection, search)
        codec.write_results(results, search.payload, into)
