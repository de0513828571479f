"""Steps that turn texts into vectors."""

import base64
from typing import Any

from executor_svc.steps.answer import answer
from executor_svc.steps.kind import StepCall, input_error
from stepwire.api.model.v1.model_service_pb2 import EmbedRequest
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub

FLOAT_BYTES = 4


class EmbedKind:
    """See `EmbedStep` in graph.proto."""

    def __init__(self, models: ModelServiceAsyncStub) -> None:
        self._models = models

    async def run(self, call: StepCall) -> Any:
        texts = [call.value] if isinstance(call.value, str) else call.value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise input_error("must be a text or a list of texts")
        response = await answer(
            self._models.Embed(EmbedRequest(model=call.spec.model, texts=texts)),
            service="model",
        )
        size = response.dimension * FLOAT_BYTES
        return {
            "model": response.model,
            "dimension": response.dimension,
            "vectors": [
                base64.b64encode(response.vectors[start : start + size]).decode()
                for start in range(0, len(response.vectors), size)
            ],
        }
