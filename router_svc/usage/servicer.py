"""UsageService over gRPC: decode, one call of the domain, encode."""

from datetime import UTC, datetime

import grpc.aio

from router_svc.usage import codec
from router_svc.usage.ports import UsageStore
from stepwire.api.router.v1 import usage_service_pb2 as pb
from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceServicer
from stepwire.call import current_call

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["UsageService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class UsageServicer(UsageServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, store: UsageStore) -> None:
        self._store = store

    async def GetUsage(self, request: pb.GetUsageRequest, context: _Context) -> pb.GetUsageResponse:
        question = codec.question_of(
            request, tenant_id=current_call().tenant_id, now=datetime.now(UTC)
        )
        response = pb.GetUsageResponse()
        codec.write_page(list(await self._store.sums(question)), question, response)
        return response
