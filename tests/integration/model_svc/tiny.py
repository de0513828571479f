"""A tiny random BERT checkpoint, as sentence-transformers would save it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LAYERS, HEADS, HIDDEN, INNER, VOCABULARY, POSITIONS = 2, 4, 16, 24, 50, 32


def write_checkpoint(
    folder: Path,
    *,
    pooling: str = "pooling_mode_mean_tokens",
    normalize: bool = True,
    config: dict[str, Any] | None = None,
    leave_out: str = "",
) -> Path:
    """Writes the checkpoint into a new folder; `leave_out` names a tensor that it lacks."""
    (folder / "1_Pooling").mkdir(parents=True)
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    _write(
        folder / "modules.json", [{"type": f"sentence_transformers.models.{m}"} for m in modules]
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 20})
    modes = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens")
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": HIDDEN, **{mode: mode == pooling for mode in modes}},
    )
    _write(
        folder / "config.json",
        {
            "model_type": "bert",
            "hidden_act": "gelu",
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "hidden_size": HIDDEN,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": POSITIONS,
            "layer_norm_eps": 1e-12,
            **(config or {}),
        },
    )
    tensors = _tensors()
    tensors.pop(leave_out, None)
    save_file(tensors, folder / "model.safetensors")
    return folder


def _tensors() -> dict[str, Any]:
    random = np.random.default_rng(7)

    def values(*shape: int, mean: float = 0, deviation: float = 0.1) -> Any:
        return random.normal(mean, deviation, shape).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": values(VOCABULARY, HIDDEN, deviation=1),
        "embeddings.position_embeddings.weight": values(POSITIONS, HIDDEN, deviation=1),
        "embeddings.token_type_embeddings.weight": values(2, HIDDEN, deviation=1),
        "embeddings.LayerNorm.weight": values(HIDDEN, mean=1),
        "embeddings.LayerNorm.bias": values(HIDDEN),
    }
    dense = {
        "attention.self.query": (HIDDEN, HIDDEN),
        "attention.self.key": (HIDDEN, HIDDEN),
        "attention.self.value": (HIDDEN, HIDDEN),
        "attention.output.dense": (HIDDEN, HIDDEN),
        "intermediate.dense": (INNER, HIDDEN),
        "output.dense": (HIDDEN, INNER),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        for name, (out, into) in dense.items():
            tensors[f"{prefix}{name}.weight"] = values(out, into, deviation=2 / into**0.5)
            tensors[f"{prefix}{name}.bias"] = values(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"{prefix}{name}.weight"] = values(HIDDEN, mean=1)
            tensors[f"{prefix}{name}.bias"] = values(HIDDEN)
    return tensors


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
