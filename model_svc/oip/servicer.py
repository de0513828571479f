"""GRPCInferenceService: decode, one call of the domain, encode."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import grpc.aio

from model_svc.oip.decode import check_parameters, decode_inputs, decode_outputs
from model_svc.oip.encode import encode_metadata, encode_outputs
from model_svc.repository import Repository, ServedModel
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from stepwire.errors import field_invalid

INFERENCE_SERVICE_NAME: Final[str] = pb.DESCRIPTOR.services_by_name[
    "GRPCInferenceService"
].full_name
_SERVER_NAME: Final = "stepwire-model"

_Context = grpc.aio.ServicerContext[object, object]


class InferenceServicer(GRPCInferenceServiceServicer):
    """Models by tensor. Errors are raised as `StepwireError`.

    The server is added once all models are loaded: it is live and ready from then on.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ServerLive(
        self,
        request: pb.ServerLiveRequest,
        context: _Context,
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self,
        request: pb.ServerReadyRequest,
        context: _Context,
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(
        self,
        request: pb.ServerMetadataRequest,
        context: _Context,
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=_SERVER_NAME, version=_version())

    async def ModelReady(
        self,
        request: pb.ModelReadyRequest,
        context: _Context,
    ) -> pb.ModelReadyResponse:
        self._find("name", request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(
        self,
        request: pb.ModelMetadataRequest,
        context: _Context,
    ) -> pb.ModelMetadataResponse:
        served = self._find("name", request.name, request.version)
        return encode_metadata(served, self._repository.versions(served.name))

    async def ModelInfer(
        self,
        request: pb.ModelInferRequest,
        context: _Context,
    ) -> pb.ModelInferResponse:
        served = self._find("model_name", request.model_name, request.model_version)
        check_parameters(request)
        outputs = decode_outputs(request, served)
        inputs = decode_inputs(request, served)
        tensors = await served.model.infer(inputs, [spec.name for spec in outputs])
        return encode_outputs(served, request.id, outputs, tensors)

    def _find(self, field: str, name: str, version: str) -> ServedModel:
        if not name:
            raise field_invalid(field, "must name a model")
        return self._repository.find(name, version)


def _version() -> str:
    try:
        return version("stepwire")
    except PackageNotFoundError:
        return "checkout"  # run from the sources, which have no version
