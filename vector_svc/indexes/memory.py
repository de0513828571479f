"""How much memory the build of an index takes at once. Pure.

pgvector builds the graph of HNSW in memory and writes it at the end; what goes beyond
maintenance_work_mem is linked in on disk, many times slower. A point takes its vector, its
neighbours (2m at the bottom, m above, which one point in m reaches) and a fixed part.
A test compares it with where pgvector says that the graph no longer fits.
"""

import math
from typing import Final

from vector_svc.engine.records import (
    CollectionConfig,
    Element,
    IndexKind,
    Quantization,
)
from vector_svc.store.index_ddl import lists_of

# What a build gets at least, and what it gets above the estimate, as that may err.
LEAST_BYTES: Final = 64 * 2**20
MARGIN: Final = 1.25

_POINT_BYTES: Final = 168
_NEIGHBOUR_BYTES: Final = 16
# IVFFlat finds its centres from so many points for each list, in float32.
_SAMPLES_PER_LIST: Final = 50
_BITS: Final = {Element.FLOAT32: 32, Element.FLOAT16: 16, Element.BINARY: 1}
_SHORTENED_BITS: Final = {Quantization.HALF: 16, Quantization.BINARY: 1}


def build_bytes(config: CollectionConfig, *, rows: int) -> int:
    """Return the bytes that the build of a collection's index takes at once.

    Args:
        config: The collection's.
        rows: Number of its points.
    """
    bits = _SHORTENED_BITS.get(config.index.quantization, _BITS[config.element])
    vector = math.ceil(config.dimension * bits / 8) + 8
    match config.index.kind:
        case IndexKind.NONE:
            return 0
        case IndexKind.IVFFLAT:
            lists = lists_of(config.index, rows=rows)
            return min(lists * _SAMPLES_PER_LIST, max(rows, lists)) * vector
        case IndexKind.HNSW:
            m = config.index.m
            neighbours = 2 * m + m / (m - 1)
            return math.ceil(rows * (_POINT_BYTES + vector + neighbours * _NEIGHBOUR_BYTES))


def granted_bytes(estimated: int, *, limit: int) -> int:
    """Return the memory that a build is given: what it takes, within the limit."""
    return min(max(math.ceil(estimated * MARGIN), LEAST_BYTES), limit)
