"""The SQL that makes and drops the vector index of a collection."""

from typing import Final

from vector_svc.engine.records import (
    Collection,
    Element,
    IndexKind,
    IndexOptions,
    Metric,
    Quantization,
)

# Of these many points one list of an IVFFlat index is made.
POINTS_PER_LIST: Final = 1_000
LEAST_LISTS: Final = 10

_TYPES: Final = {Element.FLOAT32: "vector", Element.FLOAT16: "halfvec", Element.BINARY: "bit"}
_OPCLASSES: Final = {
    Metric.COSINE: "cosine_ops",
    Metric.DOT: "ip_ops",
    Metric.EUCLIDEAN: "l2_ops",
    Metric.MANHATTAN: "l1_ops",
    Metric.HAMMING: "hamming_ops",
    Metric.JACCARD: "jaccard_ops",
}


def indexed_expression(collection: Collection) -> str:
    """Return what the vector index is made on; searches must order by the same text."""
    dimension = int(collection.config.dimension)
    match collection.config.index.quantization:
        case Quantization.HALF:
            return f"(embedding::halfvec({dimension}))"
        case Quantization.BINARY:
            return f"(binary_quantize(embedding)::bit({dimension}))"
        case Quantization.NONE:
            return "embedding"


def operator_class(collection: Collection) -> str:
    """Return the operator class of the vector index."""
    config = collection.config
    match config.index.quantization:
        case Quantization.HALF:
            return f"halfvec_{_OPCLASSES[config.metric]}"
        case Quantization.BINARY:
            return "bit_hamming_ops"
        case Quantization.NONE:
            return f"{_TYPES[config.element]}_{_OPCLASSES[config.metric]}"


def create_index(
    collection: Collection, *, rows: int, name: str = "", concurrently: bool = True
) -> str:
    """Return the statement that makes the vector index.

    Args:
        collection: Whose points.
        rows: Their number, more or less.
        name: Of the index, made of our own constants; "" for the first.
        concurrently: Whether points can be written meanwhile; not in a transaction.
    """
    options = collection.config.index
    if options.kind is IndexKind.HNSW:
        knobs = f"m = {int(options.m)}, ef_construction = {int(options.ef_construction)}"
    else:
        knobs = f"lists = {lists_of(options, rows=rows)}"
    return (
        f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}"
        f"{name or index_name(collection.id, '0')} ON vector.points_{int(collection.id)}"
        f" USING {options.kind} ({indexed_expression(collection)} {operator_class(collection)})"
        f" WITH ({knobs})"
    )


def lists_of(options: IndexOptions, *, rows: int) -> int:
    """Return the number of lists that an IVFFlat index of so many points is made with."""
    return int(options.lists or max(rows // POINTS_PER_LIST, LEAST_LISTS))


def index_name(collection_id: int, build: str) -> str:
    """Return the name of the vector index that a build makes; `build` is of our making."""
    return f"points_{int(collection_id)}_embedding_{build}"
