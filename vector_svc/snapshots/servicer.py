"""The calls of SnapshotService: decode, one call into the domain, encode."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import snapshot_service_pb2 as pb
from stepwire.api.vector.v1.snapshot_service_pb2_grpc import SnapshotServiceServicer
from stepwire.call import current_call
from vector_svc.collections.codec import write_collection
from vector_svc.engine.fields import check_name
from vector_svc.snapshots.snapshots import Snapshots

Context = grpc.aio.ServicerContext[Any, Any]


class SnapshotServicer(SnapshotServiceServicer):
    """See protos/stepwire/api/vector/v1/snapshot_service.proto."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def ExportCollection(
        self, request: pb.ExportCollectionRequest, context: Context
    ) -> AsyncIterator[pb.ExportCollectionResponse]:
        async for data in self._snapshots.dump(current_call().tenant_id, request.collection):
            yield pb.ExportCollectionResponse(data=data)

    async def ImportCollection(
        self, request_iterator: AsyncIterator[pb.ImportCollectionRequest], context: Context
    ) -> pb.ImportCollectionResponse:
        first = await anext(request_iterator, pb.ImportCollectionRequest())
        if first.collection:
            check_name(first.collection, field="collection")
        made = await self._snapshots.restore(
            current_call().tenant_id, first.collection, _data(first, request_iterator)
        )
        response = pb.ImportCollectionResponse()
        write_collection(made, response.collection)
        return response


async def _data(
    first: pb.ImportCollectionRequest, rest: AsyncIterator[pb.ImportCollectionRequest]
) -> AsyncIterator[bytes]:
    yield first.data
    async for message in rest:
        yield message.data
