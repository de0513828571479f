"""Names of the tensors of an exported encoder."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from model_svc.running.plan import Pooling

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
TOKEN_TYPES: Final = "token_type_ids"  # noqa: S105 - no password; other encoders have it
OUTPUT: Final = "sentence_embedding"
POOLED: Final[Mapping[Pooling, str]] = MappingProxyType(
    {Pooling.MEAN: "mean_embedding", Pooling.FIRST: "first_embedding"}
)
