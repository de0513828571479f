"""A sentence encoder in numpy float64, one text at a time, without padding.

Written from the BERT paper and the names of the checkpoint's tensors; shares no code with
`model_svc.export`, so that the two can be compared.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Array = npt.NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)


class ReferenceEncoder:
    def __init__(self, folder: Path, *, pooling: str = "mean", normalize: bool = True) -> None:
        self._weights: Mapping[str, Array] = {
            name: tensor.astype(np.float64)
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        config = json.loads((folder / "config.json").read_text())
        self._layers = config["num_hidden_layers"]
        self._heads = config["num_attention_heads"]
        self._epsilon = config["layer_norm_eps"]
        self._pooling = pooling
        self._normalize = normalize

    def encode(self, ids: Sequence[int]) -> Array:
        """Returns the vector of one text."""
        weights = self._weights
        state = (
            weights["embeddings.word_embeddings.weight"][list(ids)]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        state = self._norm(state, "embeddings.LayerNorm")
        for layer in range(self._layers):
            prefix = f"encoder.layer.{layer}"
            attended = self._dense(
                self._attend(state, f"{prefix}.attention.self"), f"{prefix}.attention.output.dense"
            )
            state = self._norm(state + attended, f"{prefix}.attention.output.LayerNorm")
            inner = self._dense(state, f"{prefix}.intermediate.dense")
            inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)).astype(np.float64))
            outer = self._dense(inner, f"{prefix}.output.dense")
            state = self._norm(state + outer, f"{prefix}.output.LayerNorm")
        vector: Array = state[0] if self._pooling == "first" else state.mean(axis=0)
        return vector / np.linalg.norm(vector) if self._normalize else vector

    def _attend(self, state: Array, prefix: str) -> Array:
        query, key, value = (
            np.split(self._dense(state, f"{prefix}.{part}"), self._heads, axis=1)
            for part in ("query", "key", "value")
        )
        heads = []
        for q, k, v in zip(query, key, value, strict=True):
            scores = q @ k.T / math.sqrt(q.shape[1])
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(shares / shares.sum(axis=1, keepdims=True) @ v)
        return np.concatenate(heads, axis=1)

    def _dense(self, state: Array, name: str) -> Array:
        result: Array = state @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, state: Array, name: str) -> Array:
        centred = state - state.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + self._epsilon)
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        result: Array = centred / deviation * weight + bias
        return result
