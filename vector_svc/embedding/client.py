"""The model service, by gRPC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import grpc.aio
import numpy as np

from stepwire.api.model.v1.model_service_pb2 import (
    EmbedRequest,
    RerankRequest,
    SourceDocument,
)
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_rpc_error
from vector_svc.engine.records import Matrix

# What the model service takes in one call.
MAX_TEXTS: Final = 1_024


class ModelEmbedder:
    """An `Embedder`.

    Args:
        channel: To the model service; the caller closes it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._models: ModelServiceAsyncStub = ModelServiceStub(channel)

    async def embed(self, model: str, texts: Sequence[str]) -> Matrix:
        parts = [
            await self._embed(model, texts[start : start + MAX_TEXTS])
            for start in range(0, len(texts), MAX_TEXTS)
        ]
        return np.concatenate(parts)

    async def _embed(self, model: str, texts: Sequence[str]) -> Matrix:
        with _refusals():
            response = await self._models.Embed(EmbedRequest(model=model, texts=texts))
        return np.frombuffer(response.vectors, "<f4").reshape(len(texts), response.dimension)


class ModelReranker:
    """A `Reranker`.

    Args:
        channel: To the model service; the caller closes it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._models: ModelServiceAsyncStub = ModelServiceStub(channel)

    async def rerank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        documents = [SourceDocument(id=str(n), text=text) for n, text in enumerate(texts)]
        request = RerankRequest(model=model, query=query, documents=documents)
        with _refusals():
            response = await self._models.Rerank(request)
        scores = {ranked.index: ranked.score for ranked in response.documents}
        return [scores[index] for index in range(len(texts))]


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        known = from_rpc_error(error)
        if known is not None:
            raise known from error
        raise StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the model service does not answer: {error.code().name}",
            metadata={"dependency": "model"},
        ) from error
