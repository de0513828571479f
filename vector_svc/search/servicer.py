"""The calls of SearchService: decode, one call into the domain, encode."""

from typing import Any, Final

import grpc.aio

from stepwire.api.vector.v1 import search_service_pb2 as pb
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceServicer
from stepwire.call import current_call
from stepwire.errors import field_invalid
from vector_svc.search import codec
from vector_svc.search.recall import MAX_LIMIT, Recalls
from vector_svc.search.search import Searches

DEFAULT_SAMPLES: Final = 100
MAX_SAMPLES: Final = 1_000
DEFAULT_TARGET: Final = 0.95

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(SearchServiceServicer):
    """See protos/stepwire/api/vector/v1/search_service.proto."""

    def __init__(self, searches: Searches, recalls: Recalls, *, filter_max_bytes: int) -> None:
        self._searches = searches
        self._recalls = recalls
        self._filter_max_bytes = filter_max_bytes

    async def SearchPoints(
        self, request: pb.SearchPointsRequest, context: Context
    ) -> pb.SearchPointsResponse:
        search = codec.search_of(request, filter_max_bytes=self._filter_max_bytes)
        results = await self._searches.search(current_call().tenant_id, request.collection, search)
        response = pb.SearchPointsResponse()
        codec.write_results(results, search.payload, response)
        return response

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
