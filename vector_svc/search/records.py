"""What is searched for, and what is found. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from vector_svc.engine.records import Collection, IndexOptions, Matrix, StoredPoint
from vector_svc.filters.records import Node, Path

# Postings read of each word, without and with a filter, which refuses some of them.
POSTINGS: Final = 1_000
POSTINGS_FILTERED: Final = 10_000


class Plan(StrEnum):
    """A way to search."""

    EXACT = "exact"
    """Compare with every point."""
    FILTER_FIRST = "filter_first"
    """Compare with every point that the filter leaves, found by the filter's own indexes."""
    INDEX = "index"
    """Walk the index; every point counts."""
    ITERATIVE = "iterative"
    """Walk the index, dropping what the filter refuses, until enough are found."""
    WORDS = "words"
    """Rank by words alone."""

    @property
    def walks(self) -> bool:
        """Whether it walks the index."""
        return self in (Plan.INDEX, Plan.ITERATIVE)


@dataclass(frozen=True, slots=True)
class Examples:
    """Points by which others are found."""

    positive_ids: tuple[str, ...]
    negative_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A ranking by words, and how it is joined with that by nearness."""

    words: str
    weight: float
    vector_weight: float
    k: int


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance: how much likeness counts, among how many of the best."""

    strength: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Recency:
    """How much newer points gain; an empty path stands for the time of the last change."""

    half_life: timedelta
    weight: float
    path: Path


@dataclass(frozen=True, slots=True)
class Rerank:
    """A second ranking by the texts of points.

    Attributes:
        path: Where in payloads the texts are; empty for the collection's text field.
        query: What they are compared with.
        model: Model that compares; "" for the collection's.
        candidates: Best points that are ranked again; 0 for the default.
    """

    path: Path
    query: str
    model: str
    candidates: int


@dataclass(frozen=True, slots=True)
class PayloadSelection:
    """Which fields at the top of payloads are wanted; nothing included means all."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    none: bool = False

    @property
    def everything(self) -> bool:
        """Whether payloads are wanted as they are."""
        return not (self.include or self.exclude or self.none)

    def of(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that are wanted."""
        if self.none:
            return {}
        return {
            key: value
            for key, value in payload.items()
            if (not self.include or key in self.include) and key not in self.exclude
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What a caller searches for; its numbers are checked, its vector is not yet.

    Two are equal if they differ in nothing but what they are near to: they go the same way.

    Attributes:
        limit: Number of points wanted.
        offset: Number of points to leave out from the best on.
        vector: Bytes of a vector; b"" if something else is given.
        text: Text to be turned into a vector; "" if something else is given.
        examples: Points to find others like; None if something else is given.
        words: A ranking by words; None without.
        filter: Which points count; None for every point.
        include_vectors: Whether the points carry their vectors.
        exact: Whether to compare with every point.
        score_threshold: Least score by nearness; None for any.
        diversity: Whether points are to be unlike each other; None for the best.
        recency: How much newer points gain; None for nothing.
        rerank: A second ranking by texts; None without.
        payload: What the points carry of their payloads.
        target_recall: Share of the nearest to be found; 0 for the collection's target.
        ef_search: Candidates kept during a walk of HNSW; 0 for what the target takes.
        probes: Lists of IVFFlat that a walk looks into; 0 for what the target takes.
        oversampling: Candidates of a quantized index per point wanted; 0 for the default.
        path: Of the request's fields, for errors: "" or ending in a dot.
    """

    limit: int
    offset: int = 0
    vector: bytes = field(default=b"", compare=False)
    text: str = field(default="", compare=False)
    examples: Examples | None = None
    words: WordQuery | None = None
    filter: Node | None = None
    include_vectors: bool = False
    exact: bool = False
    score_threshold: float | None = None
    diversity: Diversity | None = None
    recency: Recency | None = None
    rerank: Rerank | None = None
    payload: PayloadSelection = PayloadSelection()
    target_recall: float = 0.0
    ef_search: int = 0
    probes: int = 0
    oversampling: float = 0.0
    path: str = field(default="", compare=False)

    @property
    def near_something(self) -> bool:
        """Whether nearness counts, and not words alone."""
        return bool(self.vector or self.text or self.examples)

    @property
    def ranked_anew(self) -> bool:
        """Whether points are ranked once more after they are found."""
        return any((self.recency, self.diversity, self.rerank))


@dataclass(slots=True)
class Found(StoredPoint):
    """A point found: by its distance where vectors were compared, with its score.

    Attributes:
        score: Larger is better.
        changed_at: When it was last changed; None unless that counts.
    """

    score: float = 0.0
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a search went.

    Attributes:
        plan: The way that was taken at last.
        points_compared: Points compared with the vector, more or less.
        may_be_short: Whether there may be more points than the fewer that were found.
        recall: Share of the nearest that such a search finds; 0 if it was not measured.
        ef_search: Candidates kept during the walk of HNSW; 0 without one.
        probes: Lists of IVFFlat that the walk looked into at first; 0 without one.
        walk_given_up: Whether a walk gave up before.
        reranked: Points that were ranked again by their texts.
    """

    plan: Plan
    points_compared: int
    may_be_short: bool = False
    recall: float = 0.0
    ef_search: int = 0
    probes: int = 0
    walk_given_up: bool = False
    reranked: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """What a search has found, and where and how."""

    collection: Collection
    found: Sequence[Found]
    report: Report


@dataclass(frozen=True, slots=True)
class Figure:
    """What walks of one effort find, and their median time.

    Attributes:
        effort: Candidates that HNSW keeps, or lists of IVFFlat that are looked into.
        recall: Share of the nearest points that they find.
        milliseconds: Median time.
        nearest: Number of nearest points that count.
    """

    effort: int
    recall: float
    milliseconds: float
    nearest: int


@dataclass(frozen=True, slots=True)
class QuerySample:
    """What a caller has searched for.

    Attributes:
        vector: A matrix of one row.
        wanted: Number of points that were wanted, with those to leave out.
    """

    vector: Matrix
    wanted: int


class RecallQueries(StrEnum):
    """What was searched for to measure recall; the values are those of the column."""

    POINTS = "points"
    """Stored points, by their own vectors."""
    SEARCHES = "searches"
    """What callers had searched for."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What was measured of a collection's index.

    Attributes:
        target: Share of the nearest points to be found.
        index: What the index was made with; None if there was none to measure.
        figures: By rising numbers of nearest points, then efforts; none without an index.
        unreachable: Share of points that no walk finds by their own vectors.
        samples: Number of points or searches that were sampled.
        queries: Which of these.
        measured_at: When.
    """

    target: float
    index: IndexOptions | None
    figures: tuple[Figure, ...]
    unreachable: float
    samples: int
    queries: RecallQueries
    measured_at: datetime

    def of(self, index: IndexOptions | None) -> "Recall":
        """Return what this says of an index: the target alone if another one was measured."""
        return self if self.index == index else replace(self, index=index, figures=())
