"""Tensors and their descriptions, in the words of the Open Inference Protocol."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[Any]
Tokens = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

# A BYTES tensor is an array of bytes objects.
BYTES: Final = "BYTES"

# numpy has no bfloat16: a BF16 tensor is an array of its bits.
BF16: Final = "BF16"

# Fixed-width datatypes as they lie in raw contents: little-endian.
DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {
        "BOOL": np.dtype("?"),
        "UINT8": np.dtype("u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        BF16: np.dtype("<u2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
    }
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says of one of its tensors.

    Attributes:
        name: Its name.
        datatype: A key of `DTYPES`, or `BYTES`.
        shape: Its sizes. A text stands for a variable size: the same text, if not empty,
            is the same size wherever it stands in the model's inputs.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol tells it: -1 where the size is variable."""
        return [-1 if isinstance(size, str) else size for size in self.shape]


def are_batched(specs: Iterable[TensorSpec]) -> bool:
    """Tells whether the rows of a model's tensors are surely independent of each other.

    They are taken to be if the first dimension of each of its inputs and outputs is
    variable and has one name that begins with "batch".
    """
    firsts = {spec.shape[0] if spec.shape else 0 for spec in specs}
    return len(firsts) == 1 and str(firsts.pop()).lower().startswith("batch")
