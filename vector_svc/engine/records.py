"""What the service is about: collections, points, searches. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

# Vectors as rows: float32 values, or, of binary vectors, bytes of eight bits each.
Matrix = NDArray[Any]


class Metric(StrEnum):
    """How nearness is measured; the values are those of the column `metric`."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    HAMMING = "hamming"
    JACCARD = "jaccard"

    @property
    def best(self) -> float:
        """The score of a distance of 0; what pgvector's distances are taken from to be scores."""
        return 1.0 if self in (Metric.COSINE, Metric.JACCARD) else 0.0


class Element(StrEnum):
    """What the values of vectors are stored as; the values are those of the column."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BINARY = "binary"


class IndexKind(StrEnum):
    """How points are found without comparing with every one."""

    HNSW = "hnsw"
    IVFFLAT = "ivfflat"
    NONE = "none"


class Quantization(StrEnum):
    """How the index shortens vectors."""

    NONE = "none"
    HALF = "half"
    BINARY = "binary"


class FieldType(StrEnum):
    """Type of a promoted field; the values are the types of its column."""

    TEXT = "text"
    INT = "bigint"
    FLOAT = "double precision"
    BOOL = "boolean"
    TIMESTAMP = "timestamptz"


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What a collection's index is to be.

    Attributes:
        kind: Its kind.
        m: HNSW: edges per point and layer.
        ef_construction: HNSW: candidates kept while a point is linked in.
        lists: IVFFlat: number of lists; 0 for as many as suit the number of points.
        quantization: How it shortens vectors.
        min_points: Number of points from which on it is built by itself.
    """

    kind: IndexKind = IndexKind.HNSW
    m: int = 16
    ef_construction: int = 64
    lists: int = 0
    quantization: Quantization = Quantization.NONE
    min_points: int = 5_000


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Full-text search: the payload's field that holds the text, and how words are compared."""

    field: str
    language: str


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What the maker of a collection chooses.

    Attributes:
        name: Its name.
        dimension: Length of every vector.
        metric: How nearness is measured.
        element: What vectors are stored as.
        model: Embedding model of the vectors; "" if no text is taken.
        model_version: Version of that model, for the record.
        index: What the index is to be.
        fields: Types of the promoted fields, by name.
        text: Full-text search; None without.
        default_ttl: For how long points are kept; None for ever.
        query_samples: Most searches that are kept to measure recall by; 0 for none.
    """

    name: str
    dimension: int
    metric: Metric
    element: Element = Element.FLOAT32
    model: str = ""
    model_version: str = ""
    index: IndexOptions = IndexOptions()
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    text: TextOptions | None = None
    default_ttl: timedelta | None = None
    query_samples: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it is stored.

    Attributes:
        id: Never used again, not even for a collection of the same name.
        tenant_id: Whose it is.
        config: What its maker chose.
        revision: Grows with every change of the configuration.
        built: What the vector index that is there was made with; None if there is none.
        created_at: When it was made.
        updated_at: When it was last changed.
    """

    id: int
    tenant_id: str
    config: CollectionConfig
    revision: int
    built: IndexOptions | None
    created_at: datetime
    updated_at: datetime

    @property
    def index_ready(self) -> bool:
        """Whether the vector index is there."""
        return self.built is not None

    @property
    def index(self) -> IndexOptions:
        """What the vector index is: the one that is there, or else the one that is to be."""
        return self.built or self.config.index

    @property
    def halved(self) -> bool:
        """Whether vectors are turned into float16, to be stored or for an index."""
        wanted = (self.index.quantization, self.config.index.quantization)
        return self.config.element is Element.FLOAT16 or Quantization.HALF in wanted

    @property
    def etag(self) -> str:
        """Tells one state of the configuration from another."""
        return f"{self.id}-{self.revision}"


@dataclass(frozen=True, slots=True)
class SizedCollection:
    """A collection with its number of points, and whether an index is being built."""

    collection: Collection
    point_count: int
    index_building: bool = False


@lru_cache(maxsize=10_000)
def role_of(tenant_id: str) -> str:
    """Return the Postgres role of a tenant, as `vector.role_of` does."""
    digest = hashlib.md5(tenant_id.encode(), usedforsecurity=False).hexdigest()
    return f"stepwire_vector_{digest}"


@dataclass(frozen=True, slots=True)
class PointDraft:
    """A point as a caller sends it; nothing is checked but the payload.

    Attributes:
        id: Its id.
        vector: Its vector as bytes; b"" when it is given as text.
        payload: A JSON object.
        text: Text to be turned into the vector; "" when that is given.
        content_hash: What it must be stored with; "" for no condition.
        expires_at: When it is gone; None for the collection's default.
    """

    id: str
    vector: bytes
    payload: bytes
    text: str = ""
    content_hash: str = ""
    expires_at: datetime | None = None


class UpsertMode(StrEnum):
    """What an upsert does with points that exist, or do not."""

    UPSERT = "upsert"
    INSERT_ONLY = "insert_only"
    UPDATE_ONLY = "update_only"


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Points to write, ids ascending; every other column has as many entries.

    Attributes:
        ids: Their ids.
        vectors: Their vectors.
        payloads: JSON objects.
        expires: When each is gone; None for the collection's default.
        hashes: What each must be stored with, "" for no condition; empty for no conditions.
    """

    ids: Sequence[str]
    vectors: Matrix
    payloads: Sequence[bytes]
    expires: Sequence[datetime | None]
    hashes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What an upsert did.

    Attributes:
        upserted: Points that are stored as the request has them.
        inserted: Of these, those that did not exist.
        updated: Of these, those that were stored otherwise.
    """

    upserted: int
    inserted: int
    updated: int


@dataclass(slots=True)
class StoredPoint:
    """A point as it is stored; not frozen, since a search makes many.

    Attributes:
        id: Unique in its collection.
        payload: A JSON object.
        vector: Little-endian float32 values, or bits; None unless asked for.
        content_hash: Hash of vector and payload; "" unless asked for.
        expires_at: When it is gone; None for never.
    """

    id: str
    payload: bytes
    vector: bytes | None
    content_hash: str = ""
    expires_at: datetime | None = None
