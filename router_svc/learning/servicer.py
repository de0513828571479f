"""PredictorService over gRPC."""

import grpc.aio

from router_svc.learning import codec
from router_svc.learning.trainer import Trainer
from stepwire.api.router.v1 import predictor_service_pb2 as pb
from stepwire.api.router.v1.predictor_service_pb2_grpc import PredictorServiceServicer

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PredictorService"].full_name

Context = grpc.aio.ServicerContext[object, object]


class PredictorServicer(PredictorServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    async def ListPredictors(
        self, request: pb.ListPredictorsRequest, context: Context
    ) -> pb.ListPredictorsResponse:
        response = pb.ListPredictorsResponse()
        for version in await self._trainer.versions():
            codec.write_version(version, response.predictors.add())
        return response

    async def TrainPredictor(
        self, request: pb.TrainPredictorRequest, context: Context
    ) -> pb.TrainPredictorResponse:
        response = pb.TrainPredictorResponse()
        codec.write_version(await self._trainer.train(), response.predictor)
        return response

    async def ActivatePredictor(
        self, request: pb.ActivatePredictorRequest, context: Context
    ) -> pb.ActivatePredictorResponse:
        response = pb.ActivatePredictorResponse()
        active = await self._trainer.activate(request.version)
        if active is not None:
            codec.write_version(active, response.predictor)
        return response
