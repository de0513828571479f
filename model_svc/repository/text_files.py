"""What the files beside an encoder say of it, as sentence-transformers saves them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from model_svc.export.checkpoint import TOKENIZER_FILE, matryoshka_dimensions
from model_svc.repository.parameters import Parameters
from model_svc.running.plan import Pooling, TextPlan
from model_svc.sessions.errors import ModelLoadError

# Tokenizers that know no limit say so with a huge one.
_LONGEST: Final = 1 << 20
_DEFAULT_MAX_TOKENS: Final = 512
# Their positions are counted from behind the padding token's id.
_SHIFTED: Final = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"})
_POOLINGS: Final[Mapping[str, Pooling | None]] = MappingProxyType(
    {"mean": Pooling.MEAN, "cls": Pooling.FIRST, "none": None}
)
_POOLING_MODES: Final[Mapping[str, Pooling]] = MappingProxyType(
    {"pooling_mode_mean_tokens": Pooling.MEAN, "pooling_mode_cls_token": Pooling.FIRST}
)


def text_plan(folder: Path, parameters: Parameters) -> TextPlan | None:
    """Returns how the model of a folder reads texts; None if it has no tokenizer.

    The parameters decide; then the files `1_Pooling/config.json`, `modules.json`,
    `sentence_bert_config.json`, `tokenizer_config.json`, `config.json` and
    `config_sentence_transformers.json`, where they are there; then: the mean of the
    tokens' vectors, of length 1, of at most 512 tokens, without prefixes.

    Raises:
        ModelLoadError: A file cannot be read, or asks for a pooling that is not known.
    """
    tokenizer = folder / TOKENIZER_FILE
    if not tokenizer.is_file():
        return None
    prompts = _object(_read(folder / "config_sentence_transformers.json").get("prompts"))
    normalize = parameters.normalize
    return TextPlan(
        tokenizer=tokenizer,
        max_tokens=parameters.max_tokens or min(_limits(folder), default=_DEFAULT_MAX_TOKENS),
        pooling=_POOLINGS[parameters.pooling] if parameters.pooling else _pooling(folder),
        normalize=_normalizes(folder) if normalize is None else normalize,
        query_prefix=_first(parameters.query_prefix, prompts.get("query")),
        document_prefix=_first(
            parameters.document_prefix, prompts.get("document", prompts.get("passage"))
        ),
        matryoshka_dimensions=parameters.matryoshka_dimensions
        or matryoshka_dimensions(_read(folder / "config.json")),
    )


def _limits(folder: Path) -> Iterator[int]:
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
    ):
        said = _read(folder / file)
        limit = said.get(key)
        if type(limit) is int and 1 <= limit <= _LONGEST:
            yield limit - (_shift(said) if file == "config.json" else 0)


def _shift(config: Mapping[str, Any]) -> int:
    """How many of a model's positions no token can have."""
    padding = config.get("pad_token_id", 1)
    shifted = config.get("model_type") in _SHIFTED and type(padding) is int
    return padding + 1 if shifted else 0


def _pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    modes = {
        name for name, on in _read(path).items() if name.startswith("pooling_mode_") and on is True
    }
    if not modes:
        return Pooling.MEAN
    if len(modes) > 1 or modes.isdisjoint(_POOLING_MODES):
        raise ModelLoadError(f"{path}: pooling {sorted(modes)} is not supported")
    return _POOLING_MODES[modes.pop()]


def _normalizes(folder: Path) -> bool:
    path = folder / "modules.json"
    if not path.is_file():
        return True
    modules = _load(path)
    return isinstance(modules, list) and any(
        str(_object(module).get("type", "")).endswith("Normalize") for module in modules
    )


def _first(*choices: object) -> str:
    return next((choice for choice in choices if isinstance(choice, str)), "")


def _read(path: Path) -> Mapping[str, Any]:
    return _object(_load(path)) if path.is_file() else {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
