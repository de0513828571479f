"""Vectors of texts, through model_svc's Embed."""

from collections.abc import Sequence

import grpc.aio

from router_svc.openai_api.embeddings import Embedded, EmbeddingModel, Wanted
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_model_pb2
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_rpc_error

# How long a list of models waits for those of model_svc before it goes without them.
LIST_SECONDS = 1.0
_PAGE_SIZE = 1_000


class ModelServiceEmbedder:
    """An `Embedder`.

    Args:
        channel: To model_svc; the caller closes it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: ModelServiceAsyncStub = ModelServiceStub(channel)

    async def embed(self, wanted: Wanted) -> Embedded:
        """See `Embedder`."""
        request = pb.EmbedRequest(
            texts=wanted.texts, model=wanted.model, dimensions=wanted.dimensions
        )
        try:
            response = await self._stub.Embed(request)
        except grpc.aio.AioRpcError as error:
            ours = from_rpc_error(error)
            if ours is None:
                raise
            raise ours from error
        return Embedded(response.vectors, response.dimension, response.tokens, response.model)

    async def models(self) -> Sequence[EmbeddingModel]:
        """See `Embedder`. What can embed is model_svc's to say, as it is in Embed."""
        found: list[EmbeddingModel] = []
        request = text_model_pb2.ListTextModelsRequest(page_size=_PAGE_SIZE)
        while True:
            try:
                response = await self._stub.ListTextModels(request, timeout=LIST_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise StepwireError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    f"the model service does not say which models embed: {error.code().name}",
                    metadata={"dependency": "model"},
                ) from error
            found += (
                _embedding_model(model)
                for model in response.models
                if model.ready and text_model_pb2.TEXT_VERB_EMBED in model.verbs
            )
            request.page_token = response.next_page_token
            if not request.page_token:
                return found


def _embedding_model(model: text_model_pb2.TextModel) -> EmbeddingModel:
    return EmbeddingModel(
        model.name,
        is_default=model.is_default,
        dimension=model.dimension,
        matryoshka_dimensions=tuple(model.matryoshka_dimensions),
        max_tokens=model.max_tokens,
    )
