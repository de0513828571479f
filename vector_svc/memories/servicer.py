"""The calls of MemoryService: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import memory_service_pb2 as pb
from stepwire.api.vector.v1.memory_service_pb2_grpc import MemoryServiceServicer
from stepwire.call import current_call
from vector_svc.filters.codec import filter_of
from vector_svc.memories import codec
from vector_svc.memories.memories import Memories
from vector_svc.search.codec import write_report

Context = grpc.aio.ServicerContext[Any, Any]


class MemoryServicer(MemoryServiceServicer):
    """See protos/stepwire/api/vector/v1/memory_service.proto."""

    def __init__(self, memories: Memories, *, payload_max_bytes: int) -> None:
        self._memories = memories
        self._payload_max_bytes = payload_max_bytes

    async def Remember(self, request: pb.RememberRequest, context: Context) -> pb.RememberResponse:
        done = await self._memories.remember(
            current_call().tenant_id,
            codec.place_of(request.collection, request.space),
            codec.drafts_of(request.memories, payload_max_bytes=self._payload_max_bytes),
            codec.ttl_of(request.ttl),
        )
        return pb.RememberResponse(ids=done.ids, inserted=done.inserted, updated=done.updated)

    async def Recall(self, request: pb.RecallRequest, context: Context) -> pb.RecallResponse:
        found = await self._memories.recall(
            current_call().tenant_id,
            codec.place_of(request.collection, request.space, request.scope),
            codec.question_of(request, filter_max_bytes=self._payload_max_bytes),
        )
        response = pb.RecallResponse()
        for recalled in found.recalled:
            codec.write_recalled(recalled, response.memories.add())
        if found.report is not None:
            write_report(found.report, response.report)
        return response

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: Context
    ) -> pb.ListMemoriesResponse:
        found, token = await self._memories.latest(
            current_call().tenant_id,
            codec.place_of(request.collection, request.space, request.scope),
            filter_of(request.filter, field="filter", max_bytes=self._payload_max_bytes),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        response = pb.ListMemoriesResponse(next_page_token=token)
        for memory in found:
            codec.write_memory(memory, response.memories.add())
        return response

    async def ListMemorySpaces(
        self, request: pb.ListMemorySpacesRequest, context: Context
    ) -> pb.ListMemorySpacesResponse:
        found, token = await self._memories.spaces(
            current_call().tenant_id,
            codec.place_of(request.collection, request.within, field="within"),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        response = pb.ListMemorySpacesResponse(next_page_token=token)
        for space in found:
            codec.write_space(space, response.spaces.add())
        return response

    async def Forget(self, request: pb.ForgetRequest, context: Context) -> pb.ForgetResponse:
        place = codec.place_of(request.collection, request.space, request.scope)
        ids, filter_ = codec.forgotten_of(
            request, place.scope, filter_max_bytes=self._payload_max_bytes
        )
        forgotten = await self._memories.forget(current_call().tenant_id, place, ids, filter_)
        return pb.ForgetResponse(forgotten=forgotten)
