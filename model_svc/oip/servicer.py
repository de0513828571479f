"""GRPCInferenceService: decode, one call of the domain, encode."""

from collections.abc import AsyncIterator
from typing import Final

import grpc.aio

from model_svc.oip.encode import encode_stream_failure
from model_svc.oip.inference import Inference
from model_svc.oip.server import ModelServer
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from stepwire.rpc.call_streams import CallStreams

INFERENCE_SERVICE_NAME: Final[str] = pb.DESCRIPTOR.services_by_name[
    "GRPCInferenceService"
].full_name

_Context = grpc.aio.ServicerContext[object, object]


class InferenceServicer(GRPCInferenceServiceServicer):
    """Models by tensor. Errors are raised as `StepwireError`.

    The servicer is added once the first load is over: the server is live from then on.
    """

    def __init__(self, server: ModelServer, inference: Inference, *, calls_per_stream: int) -> None:
        self._server = server
        self._inference = inference
        self.streams = CallStreams(
            f"{INFERENCE_SERVICE_NAME}/ModelInfer",
            self._answer,
            lambda request, status: encode_stream_failure(request, status.message),
            timeout_seconds=lambda _: None,
            at_once=calls_per_stream,
        )

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: _Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: _Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._server.ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: _Context
    ) -> pb.ServerMetadataResponse:
        return self._server.metadata()

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: _Context
    ) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._server.model_ready(request.name, request.version))

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: _Context
    ) -> pb.ModelMetadataResponse:
        return self._server.model_metadata(request.name, request.version)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: _Context
    ) -> pb.ModelInferResponse:
        return await self._inference.infer(request)

    async def ModelStreamInfer(  # type: ignore[override]  # it writes its answers itself
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: _Context
    ) -> None:
        await self.streams.serve(request_iterator, context)

    async def ModelConfig(
        self, request: extensions.ModelConfigRequest, context: _Context
    ) -> extensions.ModelConfigResponse:
        return self._server.model_config(request.name, request.version)

    async def ModelStatistics(
        self, request: extensions.ModelStatisticsRequest, context: _Context
    ) -> extensions.ModelStatisticsResponse:
        return self._server.statistics(request.name, request.version)

    async def RepositoryIndex(
        self, request: extensions.RepositoryIndexRequest, context: _Context
    ) -> extensions.RepositoryIndexResponse:
        return self._server.index(request)

    async def RepositoryModelLoad(
        self, request: extensions.RepositoryModelLoadRequest, context: _Context
    ) -> extensions.RepositoryModelLoadResponse:
        await self._server.load(request)
        return extensions.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: extensions.RepositoryModelUnloadRequest, context: _Context
    ) -> extensions.RepositoryModelUnloadResponse:
        await self._server.unload(request)
        return extensions.RepositoryModelUnloadResponse()

    async def _answer(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse(infer_response=await self._inference.infer(request))
