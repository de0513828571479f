"""Writes the ONNX model of a checkpoint to a folder."""

from pathlib import Path
from typing import Final

from onnx import TensorProto, helper

from model_svc.export.cached import MODEL_FILE
from model_svc.export.checkpoint import open_weights, read_config
from model_svc.export.encoder import ATTENTION_MASK, INPUT_IDS, OUTPUT, add_encoder
from model_svc.export.graph import GraphWriter

_WEIGHTS_FILE: Final = "weights.bin"


def write_model(checkpoint: Path, target: Path) -> None:
    """Writes `model.onnx` and its weights into the existing folder `target`.

    Raises:
        CheckpointError: `checkpoint` is not a sentence encoder that we can export.
    """
    config = read_config(checkpoint)
    with open_weights(checkpoint) as weights, (target / _WEIGHTS_FILE).open("wb") as file:
        graph = GraphWriter(file, _WEIGHTS_FILE)
        add_encoder(graph, config, weights)
    graph.save(
        target / MODEL_FILE,
        inputs=[
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in (INPUT_IDS, ATTENTION_MASK)
        ],
        outputs=[
            helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", config.hidden])
        ],
    )
