"""What the service is about: collections, points, searches. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


class Metric(StrEnum):
    """How nearness is measured; the values are those of the column `metric`."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"

    def score(self, distance: float) -> float:
        """Turn pgvector's distance into a score: larger is nearer."""
        return 1.0 - distance if self is Metric.COSINE else -distance


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What the maker of a collection chooses."""

    name: str
    dimension: int
    metric: Metric


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it is stored.

    Attributes:
        id: Never used again, not even for a collection of the same name.
        config: What its maker chose.
    """

    id: int
    config: CollectionConfig


@dataclass(frozen=True, slots=True)
class SizedCollection:
    """A collection with its number of points."""

    collection: Collection
    point_count: int


@dataclass(frozen=True, slots=True)
class PointDraft:
    """A point as a caller sends it.

    Attributes:
        id: Not yet checked.
        vector: Little-endian float32 values, not yet checked.
        payload: A JSON object.
    """

    id: str
    vector: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Points to write: as many ids as rows of vectors and payloads, ids ascending."""

    ids: Sequence[str]
    vectors: Matrix
    payloads: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as it is stored.

    Attributes:
        id: Unique in its collection.
        payload: A JSON object.
        vector: Little-endian float32 values; None unless asked for.
    """

    id: str
    payload: bytes
    vector: bytes | None


@dataclass(frozen=True, slots=True)
class Match:
    """A point found by a search, with pgvector's distance: smaller is nearer."""

    point: StoredPoint
    distance: float


@dataclass(frozen=True, slots=True)
class Search:
    """What a caller searches for.

    Attributes:
        vector: Little-endian float32 values, not yet checked.
        limit: Number of points wanted.
        filter: A JSON object that payloads must contain; None for every point.
        include_vectors: Whether the points carry their vectors.
        exact: Whether to compare with every point.
    """

    vector: bytes
    limit: int
    filter: bytes | None
    include_vectors: bool
    exact: bool
