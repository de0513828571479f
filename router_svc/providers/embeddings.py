"""What texts mean, through model_svc's Embed."""

import grpc.aio
import numpy as np

from router_svc.decide.ports import Vector
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub


class Embeddings:
    """Calls model_svc for one text at a time; model_svc makes batches of them.

    Args:
        channel: To model_svc; the caller closes it.
        timeout_seconds: Longest time of a call, for model_svc to know.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_seconds: float) -> None:
        self._stub: ModelServiceAsyncStub = ModelServiceStub(channel)
        self._timeout_seconds = timeout_seconds

    async def __call__(self, text: str) -> Vector:
        """Returns the vector of `text`, of length 1.

        Raises:
            ConnectionError: model_svc does not give it.
        """
        request = pb.EmbedRequest(texts=[text])
        try:
            response = await self._stub.Embed(request, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(error.details()) from error
        return np.frombuffer(response.vectors, dtype="<f4")
