"""Writes the ONNX model of a checkpoint to a folder."""

import tempfile
from pathlib import Path
from typing import Final

from onnx import TensorProto, helper

from model_svc.export.cached import MODEL_FILE
from model_svc.export.checkpoint import TOKENIZER_FILE, open_weights, read_config
from model_svc.export.compare import compare
from model_svc.export.encoder import add_encoder
from model_svc.export.graph import GraphWriter
from model_svc.export.smaller import write_float16, write_int8
from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS, OUTPUT, POOLED
from model_svc.export.variants import Variant

_WEIGHTS_FILE: Final = "weights.bin"


def write_model(
    checkpoint: Path, target: Path, *, variant: Variant = Variant.FLOAT32, packed: bool = True
) -> None:
    """Writes `model.onnx`, and what belongs to it, into the existing folder `target`.

    Of a variant other than float32, it is also measured what it loses, if the checkpoint
    has a tokenizer.

    Raises:
        CheckpointError: `checkpoint` is not a sentence encoder that we can export.
    """
    if variant is Variant.FLOAT32:
        _write_float32(checkpoint, target, packed=packed)
        return
    with tempfile.TemporaryDirectory(dir=target) as folder:
        exact = Path(folder)
        _write_float32(checkpoint, exact, packed=packed)
        write = write_int8 if variant is Variant.INT8 else write_float16
        write(exact / MODEL_FILE, target / MODEL_FILE)
        tokenizer = checkpoint / TOKENIZER_FILE
        if tokenizer.is_file():
            compare(
                exact / MODEL_FILE,
                target / MODEL_FILE,
                tokenizer=tokenizer,
                max_tokens=read_config(checkpoint).max_tokens,
            ).write(target)


def _write_float32(checkpoint: Path, target: Path, *, packed: bool) -> None:
    config = read_config(checkpoint)
    with open_weights(checkpoint) as weights, (target / _WEIGHTS_FILE).open("wb") as file:
        graph = GraphWriter(file, _WEIGHTS_FILE)
        add_encoder(graph, config, weights, packed=packed)
    graph.save(
        target / MODEL_FILE,
        inputs=[
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in (INPUT_IDS, ATTENTION_MASK)
        ],
        outputs=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", config.hidden])
            for name in (OUTPUT, *POOLED.values())
        ],
    )
