"""A BERT-type sentence encoder as an ONNX graph that computes no padding.

Inputs `input_ids` and `attention_mask` (int64, [batch, sequence]). Outputs, float32 and
[batch, hidden]: `sentence_embedding`, as the model was trained for, and the vectors of
both kinds of pooling before they are brought to length 1, `mean_embedding` and
`first_embedding`. Only standard operators are used.

How the graph differs from the textbook, with equal results up to float32 rounding:

- **No padding in the matrix products.** The tokens that the mask keeps are gathered into
  one long row [1, tokens, hidden]. Everything that looks at one token at a time (nine
  tenths of the arithmetic at 128 tokens) runs on that row; only attention is scattered
  to [batch, heads, sequence, sequence]. A batch of mixed lengths costs little more than
  its real tokens.
- The row keeps a leading dimension of 1, since ONNX Runtime turns a two-dimensional
  MatMul and Add into a Gemm, which is slower on its CPU provider.
- Add and LayerNormalization stay apart: on the CPU provider they are faster than the
  contrib operator SkipLayerNormalization. ONNX Runtime itself fuses Add and Gelu.
- The scale of the attention scores is multiplied into the query's weights. The key's
  bias is left out: it adds the same number to every score of a query, which softmax
  ignores. The value's bias is moved through the output's weights, since the attention
  weights of a query sum to 1.

A GPU would rather compute padding than learn sizes from data, for which it must wait, and
CUDA graphs cannot do that at all: for it the same graph is written without the gathering
(`packed=False`).
"""

import math
from typing import Final, NamedTuple

import numpy as np
from onnx import TensorProto

from model_svc.export.checkpoint import Array, CheckpointError, EncoderConfig, Weights
from model_svc.export.graph import GraphWriter
from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS, OUTPUT, POOLED
from model_svc.running.plan import Pooling

_MASKED_SCORE: Final = -10_000.0  # its exponential is 0 in float32 beside any real score


class _Layout(NamedTuple):
    """Names of the tensors that say where each token is.

    Attributes:
        tokens: Flat positions in [batch * sequence] of the tokens that are computed; ""
            if all are.
        columns: For each of those tokens, its position in its text; "" if all are computed.
        length: [1]: the sequence's length.
        slots: [batch, sequence]: for each position, which of those tokens stands there;
            any token where the mask hides it; "" if all are computed.
        bias: [batch, 1, 1, sequence]: what is added to the attention scores.
        mask: [batch, 1, sequence], float32.
    """

    tokens: str
    columns: str
    length: str
    slots: str
    bias: str
    mask: str


def add_encoder(
    graph: GraphWriter, config: EncoderConfig, weights: Weights, *, packed: bool
) -> None:
    """Adds the whole encoder to an empty graph.

    Args:
        graph: The graph.
        config: The encoder's shape.
        weights: Its weights.
        packed: Whether padding is left out of the matrix products.

    Raises:
        CheckpointError: A weight is missing, or has another shape than the configuration says.
    """
    _Encoder(graph, config, weights, packed=packed).add()


class _Encoder:
    def __init__(
        self, graph: GraphWriter, config: EncoderConfig, weights: Weights, *, packed: bool
    ) -> None:
        self._graph = graph
        self._config = config
        self._weights = weights
        self._packed = packed

    def add(self) -> None:
        node = self._graph.node
        layout = self._layout()
        row = self._embeddings(layout)
        for layer in range(self._config.layers):
            prefix = f"encoder.layer.{layer}."
            attended = self._attention(layout, row, prefix + "attention.")
            row = self._norm(node("Add", attended, row), prefix + "attention.output.LayerNorm")
            inner = node("Gelu", self._dense(row, prefix + "intermediate.dense"))
            outer = self._dense(inner, prefix + "output.dense")
            row = self._norm(node("Add", outer, row), prefix + "output.LayerNorm")
        self._pooling(layout, row)

    def _layout(self) -> _Layout:
        node, integers, scalar = self._graph.node, self._graph.integers, self._graph.scalar
        shape = node("Shape", INPUT_IDS)
        length = node("Slice", shape, integers(1), integers(2))
        kept = node("Cast", ATTENTION_MASK, to=TensorProto.BOOL)
        mask = node("Unsqueeze", node("Cast", kept, to=TensorProto.FLOAT), integers(1))
        bias = node("Mul", node("Sub", scalar(1.0), mask), scalar(_MASKED_SCORE))
        bias = node("Unsqueeze", bias, integers(1))
        if not self._packed:
            return _Layout(tokens="", columns="", length=length, slots="", bias=bias, mask=mask)
        sequence = node("Squeeze", length, integers(0))
        # A text's first token is computed even where the mask hides it, so that no batch is
        # without tokens; attention and pooling still leave it out.
        first = node("Equal", node("Range", scalar(0), sequence, scalar(1)), scalar(0))
        computed = node("Cast", node("Or", kept, first), to=TensorProto.INT64)
        flat = node("Reshape", computed, integers(-1))
        tokens = node("Squeeze", node("NonZero", flat), integers(0))
        ranks = node("Sub", node("CumSum", flat, scalar(0)), scalar(1))
        return _Layout(
            tokens=tokens,
            columns=node("Mod", tokens, sequence),
            length=length,
            slots=node("Reshape", ranks, shape),
            bias=bias,
            mask=mask,
        )

    def _embeddings(self, layout: _Layout) -> str:
        node, weights, config = self._graph.node, self._weights, self._config
        words = self._graph.weight("words", self._table("word", config.vocabulary))
        # Every token is of type 0: the type's vector is part of the position's.
        places = self._graph.weight(
            "places",
            self._table("position", config.positions)
            + weights["embeddings.token_type_embeddings.weight"][0],
        )
        if self._packed:
            flat = node("Reshape", INPUT_IDS, self._graph.integers(-1))
            ids = node("Gather", flat, layout.tokens)
            row = node("Add", node("Gather", words, ids), node("Gather", places, layout.columns))
            row = node("Unsqueeze", row, self._graph.integers(0))
        else:
            # Sizes stay on the CPU, where Slice wants them: a Range would have them copied to
            # the GPU and back, and CUDA graphs allow no such copies.
            used = node("Slice", places, self._graph.integers(0), layout.length)
            row = node("Add", node("Gather", words, INPUT_IDS), used)
        return self._norm(row, "embeddings.LayerNorm")

    def _table(self, kind: str, rows: int) -> Array:
        name = f"embeddings.{kind}_embeddings.weight"
        table, wanted = self._weights[name], (rows, self._config.hidden)
        if table.shape != wanted:
            raise CheckpointError(f"tensor {name}: has shape {table.shape}, must have {wanted}")
        return table

    def _attention(self, layout: _Layout, row: str, prefix: str) -> str:
        node, weights = self._graph.node, self._weights
        query, key, value = (prefix + f"self.{part}" for part in ("query", "key", "value"))
        output = prefix + "output.dense"
        scale = np.float32(1.0 / math.sqrt(self._config.head_size))
        queries = node(
            "Add",
            self._product(row, query, self._transposed(query) * scale),
            self._graph.weight(query + ".bias", weights[query + ".bias"] * scale),
        )
        keys = self._product(row, key, self._transposed(key))
        values = self._product(row, value, self._transposed(value))
        scores = node(
            "MatMul",
            self._heads(layout, queries, [0, 2, 1, 3]),
            self._heads(layout, keys, [0, 2, 3, 1]),
        )
        shares = node("Softmax", node("Add", scores, layout.bias), axis=-1)
        mixed = node("MatMul", shares, self._heads(layout, values, [0, 2, 1, 3]))
        joined = node("Transpose", mixed, perm=[0, 2, 1, 3])
        matrix = self._transposed(output)
        bias = weights[output + ".bias"] + weights[value + ".bias"] @ matrix
        return node(
            "Add",
            self._product(self._gathered(layout, joined), output, matrix),
            self._graph.weight(output + ".bias", bias),
        )

    def _gathered(self, layout: _Layout, heads: str) -> str:
        """[batch, sequence, heads, head size] as the tokens that are computed."""
        node, integers = self._graph.node, self._graph.integers
        if not self._packed:
            return node("Reshape", heads, integers(0, 0, self._config.hidden))
        flat = node("Reshape", heads, integers(-1, self._config.hidden))
        return node("Unsqueeze", node("Gather", flat, layout.tokens), integers(0))

    def _spread(self, layout: _Layout, row: str) -> str:
        """The tokens that are computed as [batch, sequence, hidden]."""
        if not self._packed:
            return row
        tokens = self._graph.node("Squeeze", row, self._graph.integers(0))
        return self._graph.node("Gather", tokens, layout.slots)

    def _heads(self, layout: _Layout, row: str, order: list[int]) -> str:
        node, integers = self._graph.node, self._graph.integers
        split = integers(0, 0, self._config.heads, self._config.head_size)
        spread = self._spread(layout, row)
        return node("Transpose", node("Reshape", spread, split), perm=order)

    def _pooling(self, layout: _Layout, row: str) -> None:
        node, integers, scalar = self._graph.node, self._graph.integers, self._graph.scalar
        spread = self._spread(layout, row)
        total = node("Squeeze", node("MatMul", layout.mask, spread), integers(1))
        count = node("ReduceSum", layout.mask, integers(2), keepdims=0)
        # A text without tokens has the vector 0, not 0 / 0.
        node("Div", total, node("Max", count, scalar(1.0)), name=POOLED[Pooling.MEAN])
        node("Gather", spread, scalar(0), axis=1, name=POOLED[Pooling.FIRST])
        pooled = POOLED[self._config.pooling]
        if self._config.normalize:
            node("LpNormalization", pooled, axis=-1, p=2, name=OUTPUT)
        else:
            node("Identity", pooled, name=OUTPUT)

    def _norm(self, row: str, prefix: str) -> str:
        return self._graph.node(
            "LayerNormalization",
            row,
            self._graph.weight(prefix + ".weight", self._weights[prefix + ".weight"]),
            self._graph.weight(prefix + ".bias", self._weights[prefix + ".bias"]),
            axis=-1,
            epsilon=self._config.layer_norm_epsilon,
        )

    def _dense(self, row: str, prefix: str) -> str:
        bias = self._graph.weight(prefix + ".bias", self._weights[prefix + ".bias"])
        return self._graph.node("Add", self._product(row, prefix, self._transposed(prefix)), bias)

    def _product(self, row: str, prefix: str, matrix: Array) -> str:
        return self._graph.node("MatMul", row, self._graph.weight(prefix + ".weight", matrix))

    def _transposed(self, prefix: str) -> Array:
        # PyTorch keeps a dense layer's weights as [out, in]
        return self._weights[prefix + ".weight"].T
