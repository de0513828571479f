"""The calls of IndexService: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import index_service_pb2 as pb
from stepwire.api.vector.v1.index_service_pb2_grpc import IndexServiceServicer
from stepwire.call import current_call
from vector_svc.indexes import codec
from vector_svc.indexes.builds import IndexBuilds

Context = grpc.aio.ServicerContext[Any, Any]


class IndexServicer(IndexServiceServicer):
    """See protos/stepwire/api/vector/v1/index_service.proto."""

    def __init__(self, builds: IndexBuilds) -> None:
        self._builds = builds

    async def BuildIndex(
        self, request: pb.BuildIndexRequest, context: Context
    ) -> pb.BuildIndexResponse:
        build = await self._builds.request(
            current_call().tenant_id, request.collection, allow_slow=request.allow_slow
        )
        response = pb.BuildIndexResponse()
        codec.write_build(build, response.build)
        return response

    async def GetIndexBuild(
        self, request: pb.GetIndexBuildRequest, context: Context
    ) -> pb.GetIndexBuildResponse:
        build = await self._builds.get(
            current_call().tenant_id, codec.build_id_of(request.build_id)
        )
        response = pb.GetIndexBuildResponse()
        codec.write_build(build, response.build)
        return response

    async def ListIndexBuilds(
        self, request: pb.ListIndexBuildsRequest, context: Context
    ) -> pb.ListIndexBuildsResponse:
        response = pb.ListIndexBuildsResponse()
        for build in await self._builds.list(current_call().tenant_id, request.collection):
            codec.write_build(build, response.builds.add())
        return response

    async def CancelIndexBuild(
        self, request: pb.CancelIndexBuildRequest, context: Context
    ) -> pb.CancelIndexBuildResponse:
        build = await self._builds.cancel(
            current_call().tenant_id, codec.build_id_of(request.build_id)
        )
        response = pb.CancelIndexBuildResponse()
        codec.write_build(build, response.build)
        return response
