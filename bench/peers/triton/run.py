"""Triton (PyTriton) with the encoder and its dynamic batching: 32 requests or 3 ms.

python run.py MODEL TOKENIZER PORT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from encoder import Encoder
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

MODEL, TOKENIZER, PORT = sys.argv[1:]


def main() -> None:
    encoder = Encoder(MODEL, TOKENIZER)

    @batch
    def infer(text: np.ndarray) -> dict[str, np.ndarray]:
        return {"vector": encoder.embed([element.decode() for element in text[:, 0]])}

    config = TritonConfig(
        grpc_port=int(PORT), http_port=int(PORT) + 1, metrics_port=int(PORT) + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="embed",
            infer_func=infer,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="vector", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=3_000)
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
