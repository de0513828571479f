"""Small ONNX models that are served beside the embedding model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

Value = onnx.ValueInfoProto

WORDS = ("?", "red", "green", "blue")


def value(name: str, kind: int, shape: Sequence[int | str | None]) -> Value:
    return helper.make_tensor_value_info(name, kind, shape)


def write_model(
    home: Path,
    node: onnx.NodeProto,
    *,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Sequence[onnx.TensorProto] = (),
) -> None:
    """Writes a model of one node into a new folder."""
    home.mkdir(parents=True)
    graph = helper.make_graph([node], home.name, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, home / "model.onnx")


def write_scale(home: Path, factor: float, *, width: int | str = 2) -> None:
    """Writes a model that multiplies `x` [batch, width] by a factor."""
    write_model(
        home,
        helper.make_node("Mul", ["x", "factor"], ["y"]),
        inputs=[value("x", TensorProto.FLOAT, ["batch", width])],
        outputs=[value("y", TensorProto.FLOAT, ["batch", width])],
        constants=[numpy_helper.from_array(np.array(factor, dtype=np.float32), "factor")],
    )


def write_encoder(home: Path) -> None:
    """Writes a model that reads texts: each of the words has a vector of its own."""
    table = np.eye(len(WORDS), 4, dtype=np.float32)
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    write_model(
        home,
        node,
        inputs=[
            value(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        outputs=[value("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 4])],
        constants=[numpy_helper.from_array(table, "table")],
    )
    words = models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=WORDS[0])
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(home / "tokenizer.json"))


def write_repository(folder: Path) -> Path:
    """Writes `scale` (three versions), `join` (texts), `product` and `parts` (two outputs)."""
    for version, factor in (("1", 2.0), ("10", 3.0), ("9", 5.0)):
        write_scale(folder / "scale" / version, factor)
    write_model(
        folder / "join" / "1",
        helper.make_node("StringConcat", ["a", "b"], ["c"]),
        inputs=[value(name, TensorProto.STRING, ["n"]) for name in ("a", "b")],
        outputs=[value("c", TensorProto.STRING, ["n"])],
    )
    write_model(
        folder / "product" / "1",
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        inputs=[
            value("a", TensorProto.FLOAT16, ["n", None]),
            value("b", TensorProto.FLOAT16, [None, "m"]),
        ],
        outputs=[value("c", TensorProto.FLOAT16, ["n", "m"])],
    )
    write_model(
        folder / "parts" / "1",
        helper.make_node("Split", ["x"], ["low", "high"], num_outputs=2),
        inputs=[value("x", TensorProto.INT64, [4])],
        outputs=[value(name, TensorProto.INT64, [2]) for name in ("low", "high")],
    )
    return folder
