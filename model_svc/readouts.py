"""Which of a graph's outputs gives a text's vector, and what is left to do with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model_svc.export.tensor_names import OUTPUT, POOLED
from model_svc.ports import EmbedOptions
from model_svc.running.plan import Pooling
from model_svc.tensors import Tensor, TensorSpec, Tokens, Vectors

_VECTOR, _TOKENS = 2, 3  # dimensions
_TINY = 1e-12
_FLOATS = ("FP32", "FP16", "FP64")


@dataclass(frozen=True, slots=True)
class Readout:
    """How one text's vector is read.

    Attributes:
        output: The graph's output.
        pooling: How it is made of the tokens' vectors; None if the output is the vector.
        normalize: Whether it is brought to length 1.
    """

    output: str
    pooling: Pooling | None = None
    normalize: bool = False


@dataclass(frozen=True, slots=True)
class Readouts:
    """The readouts that a model has.

    Attributes:
        own: That which the model was trained for.
        own_pooling: Its pooling; None if unknown.
        own_normalized: Whether it has length 1.
        pooled: Those before normalization, by pooling.
    """

    own: Readout
    own_pooling: Pooling | None
    own_normalized: bool
    pooled: Mapping[Pooling, Readout] = field(default_factory=dict)

    def find(self, options: EmbedOptions) -> Readout:
        """Returns the readout that is asked for.

        Raises:
            ValueError: The model has none such; says why.
        """
        normalize = self.own_normalized if options.normalize is None else options.normalize
        pooling = options.pooling or self.own_pooling
        if pooling is self.own_pooling and normalize is self.own_normalized:
            return self.own
        if pooling is not None and pooling in self.pooled:
            raw = self.pooled[pooling]
            return Readout(raw.output, raw.pooling, normalize)
        if pooling is not self.own_pooling:
            raise ValueError(f"the model gives vectors of texts, without {pooling} pooling")
        if not normalize and not self.own.normalize:
            raise ValueError("the model gives vectors of length 1 only")
        return Readout(self.own.output, self.own.pooling, normalize)


def exported_readouts(pooling: Pooling, *, normalized: bool) -> Readouts:
    """Returns the readouts of a graph that we exported."""
    return Readouts(
        own=Readout(OUTPUT),
        own_pooling=pooling,
        own_normalized=normalized,
        pooled={kind: Readout(output) for kind, output in POOLED.items()},
    )


def graph_readouts(
    outputs: Sequence[TensorSpec], pooling: Pooling | None, *, normalized: bool
) -> Readouts:
    """Returns the readouts of any encoder's graph.

    Raises:
        ValueError: It has no output that could be vectors.
    """
    floats = [spec for spec in outputs if spec.datatype in _FLOATS]
    vectors = [spec for spec in floats if len(spec.shape) == _VECTOR]
    tokens = [spec for spec in floats if len(spec.shape) == _TOKENS]
    named = [spec for spec in vectors if spec.name == OUTPUT]
    if named or (vectors and pooling is None):
        own = Readout((named or vectors)[0].name, None, normalized)
        return Readouts(own, None, normalized)
    if not tokens:
        raise ValueError("no output has the vectors of texts or tokens")
    name = tokens[0].name
    kind = pooling or Pooling.MEAN
    return Readouts(
        own=Readout(name, kind, normalized),
        own_pooling=kind,
        own_normalized=normalized,
        pooled={kind: Readout(name, kind) for kind in Pooling},
    )


def read_vectors(readout: Readout, output: Tensor, mask: Tokens) -> Vectors:
    """Returns the vectors of a batch, [batch, dimension]; zeros of texts without tokens."""
    # Sums over tokens leave the range, and the precision, of float16.
    output = output.astype(np.float32, copy=False)
    if readout.pooling is Pooling.FIRST:
        kept = mask[:, :1, np.newaxis].astype(output.dtype)
        vectors = (output[:, :1] * kept).sum(axis=1)
    elif readout.pooling is Pooling.MEAN:
        kept = mask[:, :, np.newaxis].astype(output.dtype)
        vectors = (output * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    else:
        vectors = output
    return _normalized(vectors) if readout.normalize else vectors


def shortened(vectors: Vectors, options: EmbedOptions, readouts: Readouts) -> Vectors:
    """Returns the first dimensions of vectors, of length 1 again if they were."""
    normalize = readouts.own_normalized if options.normalize is None else options.normalize
    kept = vectors[:, : options.dimensions]
    return _normalized(kept) if normalize else kept


def _normalized(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized: Vectors = vectors / np.maximum(lengths, _TINY)
    return normalized
