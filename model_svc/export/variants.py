"""The ways in which an encoder can be written, and what the smaller ones lose."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

ACCURACY_FILE: Final = "accuracy.json"


class Variant(StrEnum):
    """The kind of numbers that a model computes with."""

    FLOAT32 = "float32"
    INT8 = "int8"
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How near a variant's vectors are to those of float32, over some texts.

    Attributes:
        texts: How many were compared, each in a batch of its own and all in one.
        cosine_mean: Mean cosine.
        cosine_min: That of the text which is farthest off.
    """

    texts: int
    cosine_mean: float
    cosine_min: float

    def write(self, folder: Path) -> None:
        """Writes it beside the model."""
        (folder / ACCURACY_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_accuracy(folder: Path) -> Accuracy | None:
    """Returns what was measured when a model was written; None for float32."""
    path = folder / ACCURACY_FILE
    if not path.is_file():
        return None
    return Accuracy(**json.loads(path.read_text(encoding="utf-8")))
