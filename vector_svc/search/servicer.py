"""The calls of SearchService: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import search_service_pb2 as pb
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceServicer
from stepwire.call import current_call
from vector_svc.search import codec
from vector_svc.search.search import Searches

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(SearchServiceServicer):
    """See protos/stepwire/api/vector/v1/search_service.proto."""

    def __init__(self, searches: Searches, *, filter_max_bytes: int) -> None:
        self._searches = searches
        self._filter_max_bytes = filter_max_bytes

    async def SearchPoints(
        self, request: pb.SearchPointsRequest, context: Context
    ) -> pb.SearchPointsResponse:
        search = codec.search_of(request, filter_max_bytes=self._filter_max_bytes)
        collection, found = await self._searches.search(
            current_call().tenant_id, request.collection, search
        )
        response = pb.SearchPointsResponse()
        for match in found:
            codec.write_match(match, collection.config.metric, response.points.add())
        return response
