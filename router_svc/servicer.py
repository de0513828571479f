"""RouterService over gRPC: decode, one call of the domain, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from router_svc.catalogue.codec import encode_catalogue
from router_svc.catalogue.holder import CatalogueHolder
from router_svc.decide.codec import encode_decision
from router_svc.decide.decider import Decider
from router_svc.generate.ports import Answering
from router_svc.learning.codec import report_of
from router_svc.learning.ports import Reports
from router_svc.requests.decode import decode_held, decode_request
from router_svc.requests.encode import encode_answer, encode_piece
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceServicer
from stepwire.call import current_call

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RouterService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class RouterServicer(RouterServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(
        self, decider: Decider, router: Answering, holder: CatalogueHolder, reports: Reports
    ) -> None:
        self._decider = decider
        self._router = router
        self._holder = holder
        self._reports = reports

    async def Decide(self, request: pb.DecideRequest, context: _Context) -> pb.DecideResponse:
        decision = await self._decider.decide(decode_held(request))
        if decision.over_budget is not None:
            raise decision.over_budget
        return pb.DecideResponse(decision=encode_decision(decision))

    async def Generate(self, request: pb.GenerateRequest, context: _Context) -> pb.GenerateResponse:
        answer = await self._router.generate(
            decode_request(request), deadline=current_call().deadline
        )
        return encode_answer(answer)

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: _Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        pieces = self._router.stream(decode_held(request), deadline=current_call().deadline)
        async with aclosing(pieces):
            async for piece in pieces:
                yield encode_piece(piece)

    async def ReportOutcome(
        self, request: pb.ReportOutcomeRequest, context: _Context
    ) -> pb.ReportOutcomeResponse:
        report = report_of(request, tenant_id=current_call().tenant_id)
        await self._reports.report(report)
        return pb.ReportOutcomeResponse()

    async def ListModels(
        self,
        request: pb.ListModelsRequest,
        context: _Context,
    ) -> pb.ListModelsResponse:
        return encode_catalogue(self._holder)
