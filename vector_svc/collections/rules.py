"""The limits of what a collection is made of. Pure."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from stepwire.errors import field_invalid
from vector_svc.engine.fields import check_name
from vector_svc.engine.records import (
    CollectionConfig,
    Element,
    FieldType,
    IndexKind,
    IndexOptions,
    Metric,
    Quantization,
    TextOptions,
)

MAX_DIMENSION: Final = {Element.FLOAT32: 16_000, Element.FLOAT16: 16_000, Element.BINARY: 64_000}
MAX_INDEXED: Final = {Element.FLOAT32: 2_000, Element.FLOAT16: 4_000, Element.BINARY: 64_000}
MAX_INDEXED_SHORTENED: Final = {Quantization.HALF: 4_000, Quantization.BINARY: 64_000}
MAX_MODEL_CHARACTERS: Final = 128
MAX_FIELDS: Final = 16
MAX_LISTS: Final = 32_768
MAX_QUERY_SAMPLES: Final = 1_000
MAX_TTL: Final = timedelta(days=36_500)
MIN_TTL: Final = timedelta(seconds=1)

_BITS_PER_BYTE: Final = 8
_M: Final = (2, 100)
_EF_CONSTRUCTION: Final = (4, 1_000)
_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_FIELD_RULE: Final = (
    "must be 1 to 48 characters: a lower-case letter followed by lower-case letters, digits or _"
)
_BINARY_METRICS: Final = (Metric.HAMMING, Metric.JACCARD)
# pgvector has no operator class for these.
_NOT_IVFFLAT: Final = (Metric.MANHATTAN, Metric.JACCARD)
_SHORTENED: Final = {
    Element.FLOAT32: tuple(Quantization),
    Element.FLOAT16: (Quantization.NONE, Quantization.BINARY),
    Element.BINARY: (Quantization.NONE,),
}


def check_config(config: CollectionConfig) -> None:
    """Check what a collection is to be made of.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    check_name(config.name, field="collection.name")
    _check_vectors(config)
    for name, text in (("model", config.model), ("model_version", config.model_version)):
        if len(text) > MAX_MODEL_CHARACTERS or "\0" in text:
            limit = f"must be at most {MAX_MODEL_CHARACTERS} characters, without U+0000"
            raise field_invalid(f"collection.{name}", limit)
    check_index(config)
    check_fields(config.fields)
    check_ttl(config.default_ttl)
    check_query_samples(config.query_samples)
    if config.text is not None:
        _check_text(config.text)


def check_index(config: CollectionConfig) -> None:
    """Check that the index of a collection can be built.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    options = config.index
    if options.quantization not in _SHORTENED[config.element]:
        wrong = f"{options.quantization} does not go with {config.element} vectors"
        raise field_invalid("collection.index.quantization", wrong)
    if options.kind is IndexKind.IVFFLAT and config.metric in _NOT_IVFFLAT:
        raise field_invalid("collection.index.kind", f"ivfflat does not know {config.metric}")
    if options.quantization is Quantization.BINARY and config.metric is Metric.MANHATTAN:
        wrong = "signs say nothing of the manhattan distance"
        raise field_invalid("collection.index.quantization", wrong)
    most = MAX_INDEXED_SHORTENED.get(options.quantization, MAX_INDEXED[config.element])
    if options.kind is not IndexKind.NONE and config.dimension > most:
        raise field_invalid("collection.dimension", f"must be at most {most} with this index")
    _check_numbers(options)


def check_fields(fields: Mapping[str, FieldType]) -> None:
    """Check promoted fields.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if len(fields) > MAX_FIELDS:
        raise field_invalid("collection.fields", f"must be at most {MAX_FIELDS}")
    for index, name in enumerate(fields):
        if not _FIELD_NAME.fullmatch(name):
            raise field_invalid(f"collection.fields[{index}].name", _FIELD_RULE)


def check_ttl(ttl: timedelta | None) -> None:
    """Check for how long points are kept.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if ttl is not None and not MIN_TTL <= ttl <= MAX_TTL:
        raise field_invalid("collection.default_ttl", "must be from a second to 36,500 days, or 0")


def check_query_samples(count: int) -> None:
    """Check how many searches are kept to measure recall by.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 0 <= count <= MAX_QUERY_SAMPLES:
        raise field_invalid("collection.query_samples", f"must be from 0 to {MAX_QUERY_SAMPLES}")


def _check_vectors(config: CollectionConfig) -> None:
    most = MAX_DIMENSION[config.element]
    if not 1 <= config.dimension <= most:
        raise field_invalid("collection.dimension", f"must be from 1 to {most}")
    binary = config.element is Element.BINARY
    if binary and config.dimension % _BITS_PER_BYTE:
        raise field_invalid("collection.dimension", "must be a multiple of 8 for binary vectors")
    if binary is not (config.metric in _BINARY_METRICS):
        wrong = f"{config.metric} does not go with {config.element} vectors"
        raise field_invalid("collection.metric", wrong)


def _check_numbers(options: IndexOptions) -> None:
    for name, value, (least, most) in (
        ("m", options.m, _M),
        ("ef_construction", options.ef_construction, _EF_CONSTRUCTION),
        ("lists", options.lists, (0, MAX_LISTS)),
    ):
        if not least <= value <= most:
            raise field_invalid(f"collection.index.{name}", f"must be from {least} to {most}, or 0")
    if options.ef_construction < 2 * options.m:
        raise field_invalid("collection.index.ef_construction", "must be at least twice m")
    if options.min_points < 1:
        raise field_invalid("collection.index.min_points", "must not be negative")


def _check_text(text: TextOptions) -> None:
    if not _FIELD_NAME.fullmatch(text.field):
        raise field_invalid("collection.text.field", _FIELD_RULE)
    if not _FIELD_NAME.fullmatch(text.language):
        raise field_invalid("collection.text.language", _FIELD_RULE)
