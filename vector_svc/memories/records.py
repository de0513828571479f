"""What agents remember, and what they recall. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from vector_svc.filters.records import Node
from vector_svc.search.records import Report


class Scope(Enum):
    """Which spaces are meant besides the one that is named."""

    SPACE = auto()
    """The space alone."""
    WITHIN = auto()
    """The space and all that lie in it."""
    AROUND = auto()
    """The space and those that it lies in."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where memories are.

    Attributes:
        collection: Name of the collection, or an alias.
        space: The space; "" for the tenant's own.
        scope: Which spaces besides.
    """

    collection: str
    space: str
    scope: Scope = Scope.SPACE


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """A memory as a caller sends it, checked.

    Attributes:
        id: Its id; "" for one made of the text.
        text: Its text.
        metadata: A JSON object.
        importance: From 0 to 1.
        time: When what it tells was so; None for now.
    """

    id: str
    text: str
    metadata: bytes = b"{}"
    importance: float = 0.0
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory as it is stored.

    Attributes:
        id: Unique in its space.
        space: The space that it is in.
        text: Its text.
        metadata: A JSON object.
        importance: From 0 to 1.
        time: When what it tells was so; None if somebody else wrote the point.
        expires_at: When it is forgotten by itself; None for never.
    """

    id: str
    space: str
    text: str
    metadata: bytes
    importance: float
    time: datetime | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a write of memories did; see `RememberResponse` in memory_service.proto."""

    ids: Sequence[str]
    inserted: int
    updated: int


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts besides relevance.

    Attributes:
        half_life: Age at which recency is a half.
        recency: What recency is multiplied by.
        importance: What importance is multiplied by.
    """

    half_life: timedelta
    recency: float
    importance: float


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be recalled.

    Attributes:
        text: What is looked for.
        limit: Number of memories wanted.
        filter: Which memories count; None for all.
        weights: What counts besides relevance.
        min_relevance: Least relevance; None for any.
    """

    text: str
    limit: int
    filter: Node | None
    weights: Weights
    min_relevance: float | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory, what it is ranked by, and what that is made of."""

    memory: Memory
    score: float
    relevance: float
    recency: float


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was recalled, best first, and how it was found; None: nothing is remembered."""

    recalled: Sequence[Recalled]
    report: Report | None


@dataclass(frozen=True, slots=True)
class MemorySpace:
    """A space, the number of memories in it, and the time of the latest."""

    space: str
    memories: int
    latest: datetime
