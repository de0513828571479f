"""The model and router services, for programs."""

from collections.abc import Sequence
from datetime import timedelta

import grpc.aio

from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.api.model.v1.text_model_pb2 import ListTextModelsRequest, TextModel
from stepwire.api.router.v1 import catalogue_pb2 as catalogue_pb
from stepwire.api.router.v1 import router_service_pb2 as router_pb
from stepwire.api.router.v1.router_service_pb2_grpc import (
    RouterServiceAsyncStub,
    RouterServiceStub,
)
from stepwire.sdk.failures import raising_ours

_FLOAT_BYTES = 4


class Models:
    """Embeddings, and the lists of text models. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._model: ModelServiceAsyncStub = ModelServiceStub(channel)
        self._router: RouterServiceAsyncStub = RouterServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def embed(self, texts: Sequence[str], *, model: str = "") -> list[bytes]:
        """Turns texts into vectors, each as little-endian float32 values."""
        request = model_pb.EmbedRequest(model=model, texts=texts)
        with raising_ours(self._target):
            response = await self._model.Embed(request, timeout=self._timeout_seconds)
        size = response.dimension * _FLOAT_BYTES
        return [
            response.vectors[start : start + size] for start in range(0, size * len(texts), size)
        ]

    async def catalogue(self) -> Sequence[catalogue_pb.CatalogueModel]:
        """Lists the models that the router chooses from."""
        with raising_ours(self._target):
            response = await self._router.ListModels(
                router_pb.ListModelsRequest(), timeout=self._timeout_seconds
            )
        return response.models

    async def hosted(self) -> list[TextModel]:
        """Lists the models of the model service that read or write texts, by name."""
        models: list[TextModel] = []
        request = ListTextModelsRequest()
        while True:
            with raising_ours(self._target):
                response = await self._model.ListTextModels(request, timeout=self._timeout_seconds)
            models += response.models
            request.page_token = response.next_page_token
            if not request.page_token:
                return models

    async def generate(self, request: router_pb.GenerateRequest) -> router_pb.GenerateResponse:
        """Generates an answer with the model that fits the request."""
        with raising_ours(self._target):
            return await self._router.Generate(request, timeout=self._timeout_seconds)
