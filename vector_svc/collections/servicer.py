"""The calls of CollectionService: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import collection_service_pb2 as pb
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceServicer
from stepwire.call import current_call
from vector_svc.aliases.aliases import Aliases
from vector_svc.collections import codec
from vector_svc.collections.registry import Collections

Context = grpc.aio.ServicerContext[Any, Any]


class CollectionServicer(CollectionServiceServicer):
    """See protos/stepwire/api/vector/v1/collection_service.proto."""

    def __init__(
        self, collections: Collections, aliases: Aliases, *, defaults: codec.IndexDefaults
    ) -> None:
        self._collections = collections
        self._aliases = aliases
        self._defaults = defaults

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        config = codec.config_of(request.collection, self._defaults)
        made = await self._collections.create(current_call().tenant_id, config)
        response = pb.CreateCollectionResponse()
        codec.write_collection(made, response.collection)
        return response

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: Context
    ) -> pb.GetCollectionResponse:
        found = await self._collections.get(current_call().tenant_id, request.collection)
        response = pb.GetCollectionResponse()
        codec.write_collection(found, response.collection)
        return response

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: Context
    ) -> pb.ListCollectionsResponse:
        found, token = await self._collections.list(
            current_call().tenant_id, page_size=request.page_size, page_token=request.page_token
        )
        response = pb.ListCollectionsResponse(next_page_token=token)
        for collection in found:
            codec.write_collection(collection, response.collections.add())
        return response

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> pb.UpdateCollectionResponse:
        changed = await self._collections.update(
            current_call().tenant_id,
            request.collection.name,
            codec.edit_of(request, self._defaults),
            etag=request.etag,
        )
        response = pb.UpdateCollectionResponse()
        codec.write_collection(changed, response.collection)
        return response

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        await self._collections.delete(current_call().tenant_id, request.collection)
        return pb.DeleteCollectionResponse()

    async def GetCollectionStats(
        self, request: pb.GetCollectionStatsRequest, context: Context
    ) -> pb.GetCollectionStatsResponse:
        stats = await self._collections.stats(current_call().tenant_id, request.collection)
        response = pb.GetCollectionStatsResponse()
        codec.write_stats(stats, response.stats)
        return response

    async def ChangeAliases(
        self, request: pb.ChangeAliasesRequest, context: Context
    ) -> pb.ChangeAliasesResponse:
        aliases = await self._aliases.change(
            current_call().tenant_id, codec.changes_of(request.changes)
        )
        response = pb.ChangeAliasesResponse()
        for alias in aliases:
            response.aliases.add(name=alias.name, collection=alias.collection)
        return response

    async def ListAliases(
        self, request: pb.ListAliasesRequest, context: Context
    ) -> pb.ListAliasesResponse:
        found, token = await self._aliases.list(
            current_call().tenant_id, page_size=request.page_size, page_token=request.page_token
        )
        response = pb.ListAliasesResponse(next_page_token=token)
        for alias in found:
            response.aliases.add(name=alias.name, collection=alias.collection)
        return response
