"""RouterService over gRPC: decode, one call of the domain, encode."""

import grpc.aio

from router_svc.decode import decode_decide, decode_request
from router_svc.encode import encode_answer, encode_catalogue, encode_decision
from router_svc.router import Router
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceServicer
from stepwire.call import current_call

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RouterService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class RouterServicer(RouterServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def Decide(self, request: pb.DecideRequest, context: _Context) -> pb.DecideResponse:
        decision = self._router.decide(decode_decide(request))
        return pb.DecideResponse(decision=encode_decision(decision))

    async def Generate(self, request: pb.GenerateRequest, context: _Context) -> pb.GenerateResponse:
        answer = await self._router.generate(
            decode_request(request), deadline=current_call().deadline
        )
        return encode_answer(answer)

    async def ListModels(
        self,
        request: pb.ListModelsRequest,
        context: _Context,
    ) -> pb.ListModelsResponse:
        return encode_catalogue(self._router.catalogue)
