"""A sentence encoder as sentence-transformers saves it: what its folder says and holds."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from model_svc.running.plan import Pooling

WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
_CONFIG_FILES: Final = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)

Array = npt.NDArray[np.float32]


class CheckpointError(Exception):
    """The folder is not a sentence encoder that we can export; says what is wrong."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The shape of a BERT-type sentence encoder.

    Attributes:
        layers: Number of transformer layers.
        heads: Attention heads of a layer.
        hidden: Length of a token's vector, and of the text's.
        vocabulary: Number of different tokens.
        positions: Rows of the position table: no input can be longer.
        max_tokens: Longest input that the model was trained for, special tokens included.
        layer_norm_epsilon: What layer normalization adds to the variance.
        pooling: How a text's vector is made of its tokens'.
        normalize: Whether the text's vector has Euclidean length 1.
        matryoshka_dimensions: Lengths to which it was trained to have its vectors shortened.
    """

    layers: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int
    max_tokens: int
    layer_norm_epsilon: float
    pooling: Pooling
    normalize: bool
    matryoshka_dimensions: tuple[int, ...] = ()

    @property
    def head_size(self) -> int:
        """Length of one head's vectors."""
        return self.hidden // self.heads


def read_config(folder: Path) -> EncoderConfig:
    """Reads the configuration files of a folder.

    Raises:
        CheckpointError: A file is missing, or it describes a model of another kind.
    """
    path = folder / "config.json"
    config = _read_json(path, dict)
    _require(config, "model_type", "bert", folder)
    _require(config, "hidden_act", "gelu", folder)
    _require(config, "position_embedding_type", "absolute", folder, if_absent="absolute")
    modules = [
        str(module.get("type") if isinstance(module, dict) else module).rsplit(".", 1)[-1]
        for module in _read_json(folder / "modules.json", list)
    ]
    if modules not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(f"{folder / 'modules.json'}: modules {modules} are not supported")
    sentence = folder / "sentence_bert_config.json"
    longest = _count(sentence, _read_json(sentence, dict), "max_seq_length")
    heads, hidden = (_count(path, config, key) for key in ("num_attention_heads", "hidden_size"))
    if hidden % heads:
        raise CheckpointError(f"{path}: {heads} heads do not share {hidden} numbers evenly")
    epsilon = config.get("layer_norm_eps")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise CheckpointError(f"{path}: layer_norm_eps is {epsilon!r}, must be between 0 and 1")
    positions = _count(path, config, "max_position_embeddings")
    return EncoderConfig(
        layers=_count(path, config, "num_hidden_layers"),
        heads=heads,
        hidden=hidden,
        vocabulary=_count(path, config, "vocab_size"),
        positions=positions,
        max_tokens=min(longest, positions),
        layer_norm_epsilon=epsilon,
        pooling=_pooling(folder / "1_Pooling" / "config.json"),
        normalize=modules[-1] == "Normalize",
        matryoshka_dimensions=matryoshka_dimensions(config),
    )


def matryoshka_dimensions(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the lengths that a `config.json` says vectors were trained to be shortened to."""
    lengths = config.get("matryoshka_dimensions")
    if not isinstance(lengths, list):
        return ()
    return tuple(length for length in lengths if type(length) is int and length > 0)


def fingerprint(folder: Path) -> str:
    """Returns a hash of everything in the folder that the exported model depends on.

    Raises:
        CheckpointError: A file is missing.
    """
    digest = hashlib.sha256()
    for name in (*_CONFIG_FILES, WEIGHTS_FILE):
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError:
            raise CheckpointError(f"{folder / name} is missing") from None
    return digest.hexdigest()


class Weights:
    """The named tensors of a checkpoint, read one at a time."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor as float32.

        Raises:
            CheckpointError: The checkpoint does not have it.
        """
        try:
            return np.asarray(self._tensors.get_tensor(name), dtype=np.float32)
        except Exception as error:
            # safetensors raises an exception class of its own that it does not export
            raise CheckpointError(f"tensor {name}: {error}") from error


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Opens the weights of a folder for the block.

    Raises:
        CheckpointError: They are missing, or no safetensors.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    try:
        opened = safe_open(path, "numpy")
    except Exception as error:
        # see `Weights`
        raise CheckpointError(f"{path}: {error}") from error
    with opened as tensors:
        yield Weights(tensors)


def _pooling(path: Path) -> Pooling:
    modes = {name for name, value in _read_json(path, dict).items() if value is True}
    modes.discard("include_prompt")
    if modes == {"pooling_mode_mean_tokens"}:
        return Pooling.MEAN
    if modes == {"pooling_mode_cls_token"}:
        return Pooling.FIRST
    raise CheckpointError(f"{path}: pooling {sorted(modes)} is not supported")


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{path}: must be {'an object' if kind is dict else 'a list'}")
    return content


def _count(path: Path, config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r}, must be a whole number from 1 on")
    return value


def _require(
    config: Mapping[str, object],
    key: str,
    expected: str,
    folder: Path,
    *,
    if_absent: str | None = None,
) -> None:
    found = config.get(key, if_absent)
    if found != expected:
        raise CheckpointError(f"{folder / 'config.json'}: {key} is {found!r}, must be {expected!r}")
