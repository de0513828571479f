"""Variants with smaller numbers, made from the float32 model by ONNX Runtime's own tools."""

import logging
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

# Computed in float32 all the same: a sum of squares may leave the range of float16.
_FLOAT32_OPERATORS: Final = ["LpNormalization", "Range"]


def write_int8(exact: Path, target: Path) -> None:
    """Writes a model whose matrix products with weights are in int8.

    Weights are scaled per column, which keeps the cosine to float32 above 0.99 where one
    scale for all had 0.98. Activations are scaled run by run, over the whole batch: a
    text's vector depends a little on its company.
    """
    # It recommends a step which the graph does not need.
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        exact,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def write_float16(exact: Path, target: Path) -> None:
    """Writes a model that computes in float16, for GPUs; inputs and outputs stay as they are."""
    model = convert_float_to_float16(
        onnx.load(exact), keep_io_types=True, op_block_list=_FLOAT32_OPERATORS
    )
    onnx.save(model, target)
