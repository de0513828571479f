"""Seldon MLServer with the encoder and its adaptive batching: 32 requests or 3 ms.

python run.py MODEL TOKENIZER PORT
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from encoder import Encoder
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

MODEL, TOKENIZER, PORT = sys.argv[1:]


class Embed(MLModel):
    async def load(self) -> bool:
        self._encoder = Encoder(MODEL, TOKENIZER)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        vectors = self._encoder.embed(texts)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("vector", vectors)]
        )


async def main() -> None:
    server = MLServer(
        Settings(
            parallel_workers=0,
            host="127.0.0.1",
            grpc_port=int(PORT),
            http_port=int(PORT) + 1,
            metrics_port=int(PORT) + 2,
            debug=False,
        )
    )
    model = ModelSettings(
        name="embed", implementation=Embed, max_batch_size=32, max_batch_time=0.003
    )
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
