"""Between the messages of CollectionService and its records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from stepwire.api.vector.v1 import collection_pb2 as pb
from stepwire.api.vector.v1 import collection_service_pb2 as service_pb
from stepwire.errors import field_invalid
from vector_svc.aliases.records import AliasChange
from vector_svc.collections.records import Edit, Stats
from vector_svc.engine.records import (
    CollectionConfig,
    Element,
    FieldType,
    IndexKind,
    IndexOptions,
    Metric,
    Quantization,
    SizedCollection,
    TextOptions,
)

PLAIN_LANGUAGE: Final = "simple"
_EF_PER_M: Final = 2

_METRICS: Final[Mapping[int, Metric]] = {
    pb.Metric.Value(f"METRIC_{metric.name}"): metric for metric in Metric
}
_ELEMENTS: Final[Mapping[int, Element]] = {
    pb.ElementType.Value(f"ELEMENT_TYPE_{element.name}"): element for element in Element
}
_KINDS: Final[Mapping[int, IndexKind]] = {
    pb.IndexKind.Value(f"INDEX_KIND_{kind.name}"): kind for kind in IndexKind
}
_QUANTIZATIONS: Final[Mapping[int, Quantization]] = {
    pb.Quantization.Value(f"QUANTIZATION_{quantization.name}"): quantization
    for quantization in Quantization
}
_TYPES: Final[Mapping[int, FieldType]] = {
    pb.FieldType.Value(f"FIELD_TYPE_{type_.name}"): type_ for type_ in FieldType
}
_READERS: Final = ("index", "fields", "default_ttl", "query_samples")


@dataclass(frozen=True, slots=True)
class IndexDefaults:
    """What an index is made of unless its collection says otherwise."""

    m: int
    ef_construction: int
    min_points: int


def config_of(message: pb.Collection, defaults: IndexDefaults) -> CollectionConfig:
    """Read what a collection is to be made of.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    element = _element_of(message.element_type)
    return CollectionConfig(
        name=message.name,
        dimension=message.dimension,
        metric=_metric_of(message.metric, element),
        element=element,
        model=message.model,
        model_version=message.model_version,
        index=_index_of(message.index, defaults),
        fields=_fields_of(message.fields),
        text=_text_of(message.text),
        default_ttl=_ttl_of(message),
        query_samples=message.query_samples,
    )


def edit_of(message: service_pb.UpdateCollectionRequest, defaults: IndexDefaults) -> Edit:
    """Read what is to change of a collection.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    paths = list(message.update_mask.paths) or list(_READERS)
    for path in paths:
        if path not in _READERS:
            known = ", ".join(_READERS)
            raise field_invalid("update_mask", f"{path[:80]!r} must be one of {known}")
    wanted = message.collection
    return Edit(
        index=_index_of(wanted.index, defaults) if "index" in paths else None,
        fields=_fields_of(wanted.fields) if "fields" in paths else None,
        sets_ttl="default_ttl" in paths,
        default_ttl=_ttl_of(wanted),
        query_samples=wanted.query_samples if "query_samples" in paths else None,
    )


def changes_of(changes: Iterable[service_pb.AliasChange]) -> list[AliasChange]:
    """Read changes of aliases."""
    return [AliasChange(change.alias, change.collection) for change in changes]


def write_collection(sized: SizedCollection, into: pb.Collection) -> None:
    """Fill in a collection."""
    collection, config = sized.collection, sized.collection.config
    into.name = config.name
    into.dimension = config.dimension
    into.metric = pb.Metric.Value(f"METRIC_{config.metric.name}")
    into.point_count = sized.point_count
    into.element_type = pb.ElementType.Value(f"ELEMENT_TYPE_{config.element.name}")
    into.model = config.model
    into.model_version = config.model_version
    _write_index(config.index, into.index)
    for name, type_ in config.fields.items():
        into.fields.add(name=name, type=pb.FieldType.Value(f"FIELD_TYPE_{type_.name}"))
    if config.text is not None:
        into.text.field = config.text.field
        into.text.language = config.text.language
    if config.default_ttl is not None:
        into.default_ttl.FromTimedelta(config.default_ttl)
    into.query_samples = config.query_samples
    into.index_state = _state_of(sized)
    into.etag = collection.etag
    into.create_time.FromDatetime(collection.created_at)
    into.update_time.FromDatetime(collection.updated_at)


def write_stats(stats: Stats, into: pb.CollectionStats) -> None:
    """Fill in what a collection takes."""
    into.point_count = stats.point_count
    into.expiring_points = stats.expiring_points
    into.table_bytes = stats.table_bytes
    into.vector_index_bytes = stats.vector_index_bytes
    into.other_index_bytes = stats.index_bytes - stats.vector_index_bytes
    into.dead_points = stats.dead_points
    into.query_samples = stats.query_samples
    if isinstance(stats.analyzed_at, datetime):
        into.analyze_time.FromDatetime(stats.analyzed_at)


def _write_index(options: IndexOptions, into: pb.IndexOptions) -> None:
    into.kind = pb.IndexKind.Value(f"INDEX_KIND_{options.kind.name}")
    into.m = options.m
    into.ef_construction = options.ef_construction
    into.lists = options.lists
    into.quantization = pb.Quantization.Value(f"QUANTIZATION_{options.quantization.name}")
    into.min_points = options.min_points


def _state_of(sized: SizedCollection) -> "pb.IndexState.ValueType":
    if sized.collection.index_ready:
        return pb.INDEX_STATE_READY
    return pb.INDEX_STATE_BUILDING if sized.index_building else pb.INDEX_STATE_NONE


def _element_of(number: int) -> Element:
    if number and number not in _ELEMENTS:
        raise field_invalid("collection.element_type", f"{number} is not an element type")
    return _ELEMENTS[number] if number else Element.FLOAT32


def _metric_of(number: int, element: Element) -> Metric:
    if number and number not in _METRICS:
        raise field_invalid("collection.metric", f"{number} is not a metric")
    if number:
        return _METRICS[number]
    return Metric.HAMMING if element is Element.BINARY else Metric.COSINE


def _index_of(message: pb.IndexOptions, defaults: IndexDefaults) -> IndexOptions:
    if message.kind and message.kind not in _KINDS:
        raise field_invalid("collection.index.kind", f"{message.kind} is not a kind")
    if message.quantization and message.quantization not in _QUANTIZATIONS:
        wrong = f"{message.quantization} is not a quantization"
        raise field_invalid("collection.index.quantization", wrong)
    m = message.m or defaults.m
    return IndexOptions(
        kind=_KINDS.get(message.kind, IndexKind.HNSW),
        m=m,
        ef_construction=message.ef_construction or max(defaults.ef_construction, _EF_PER_M * m),
        lists=message.lists,
        quantization=_QUANTIZATIONS.get(message.quantization, Quantization.NONE),
        min_points=message.min_points or defaults.min_points,
    )


def _fields_of(messages: Iterable[pb.PromotedField]) -> Mapping[str, FieldType]:
    fields: dict[str, FieldType] = {}
    for index, message in enumerate(messages):
        if message.type not in _TYPES:
            raise field_invalid(f"collection.fields[{index}].type", "must be a type")
        if message.name in fields:
            raise field_invalid(f"collection.fields[{index}].name", "stands twice")
        fields[message.name] = _TYPES[message.type]
    return fields


def _text_of(message: pb.TextOptions) -> TextOptions | None:
    if not message.field:
        return None
    return TextOptions(message.field, message.language or PLAIN_LANGUAGE)


def _ttl_of(message: pb.Collection) -> timedelta | None:
    try:
        return message.default_ttl.ToTimedelta() or None
    except (OverflowError, ValueError):
        raise field_invalid("collection.default_ttl", "is not a duration") from None
