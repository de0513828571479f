"""Vectors of texts, through model_svc's Embed."""

import grpc.aio

from router_svc.openai_api.embeddings import Embedded, Wanted
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.rpc.status import from_rpc_error


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
