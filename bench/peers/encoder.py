"""The sentence encoder as a peer serves it: the tokenizer and one ONNX Runtime session.

Imported by the peers in their own environments; knows nothing of Stepwire.
"""

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

MAX_TOKENS = 256


class Encoder:
    def __init__(self, model: str, tokenizer: str) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: list[str]) -> np.ndarray:
        encodings = self._tokenizer.encode_batch_fast(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array(
                [encoding.attention_mask for encoding in encodings], dtype=np.int64
            ),
        }
        return self._session.run(["sentence_embedding"], inputs)[0]
