"""What searches need from outside."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vector_svc.engine.records import Collection, Matrix
from vector_svc.filters.records import Node
from vector_svc.search.records import Found, Plan, QuerySample, Recall, WordQuery


@dataclass(frozen=True, slots=True)
class Sizes:
    """Points as far as they were counted, and what was measured of the index."""

    points: int
    recall: Recall | None


@dataclass(frozen=True, slots=True)
class Order:
    """What a store is to find, near to one vector or another.

    Attributes:
        plan: The way.
        wanted: Points to find, with those to leave out.
        offset: Points to leave out from the best on.
        filter: Which points count; None for every point.
        words: A ranking by words; None without.
        effort: Candidates to keep during a walk, or lists to look into.
        candidates: Points that a shortened index gives to be ranked.
        depth: Points of each ranking, where there are two.
        max_distance: Largest distance of a point by nearness; None for any.
        payloads: Whether the points carry their payloads.
        vectors: Whether the points carry their vectors.
        times: Whether the points carry the times of their last change.
        most_lists: Lists to look into before giving up, where an index has lists.
    """

    plan: Plan
    wanted: int
    offset: int
    filter: Node | None
    words: WordQuery | None
    effort: int
    candidates: int
    depth: int
    max_distance: float | None
    payloads: bool
    vectors: bool
    times: bool = False
    most_lists: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order made ready by a store, which carries it out with any vector.

    Attributes:
        collection: Where.
        order: The order.
        statement: What the store makes of it.
        arguments: What goes with that behind the vector.
    """

    collection: Collection
    order: Order
    statement: str
    arguments: Sequence[object]


class SearchStore(Protocol):
    """Finds points.

    Every method raises CollectionGoneError if the collection is no longer there.
    """

    def sizes(self, collection: Collection, *, at_most: int) -> Awaitable[Sizes]:
        """Return the number of points, `at_most` if there are more, and what was measured."""
        ...

    def estimate(self, collection: Collection) -> Awaitable[int]:
        """Return the number of points, more or less, without counting."""
        ...

    def count_matches(
        self, collection: Collection, filter_: Node, *, at_most: int
    ) -> Awaitable[int]:
        """Return the number of points that match a filter, `at_most` if there are more."""
        ...

    def estimate_matches(
        self, collection: Collection, filter_: Node, *, rows: int
    ) -> Awaitable[int]:
        """Return the number of points that match a filter, more or less, of so many points."""
        ...

    def prepare(self, collection: Collection, order: Order) -> Prepared:
        """Make an order ready to be carried out.

        Raises:
            StepwireError: FIELD_INVALID, for a filter that does not fit the collection.
        """
        ...

    def search(self, prepared: Prepared, vector: Matrix | None) -> Awaitable[list[Found]]:
        """Return the best points, best first.

        Args:
            prepared: What is to be found.
            vector: A matrix of one row; None to rank by words alone.
        """
        ...

    def search_together(
        self, collection: Collection, order: Order, vectors: Matrix
    ) -> Awaitable[list[list[Found]]]:
        """Return the best points of each of several walks that differ in their vectors alone.

        For indexes of whole vectors, without words and points to leave out.
        """
        ...

    def vectors(self, collection: Collection, ids: Sequence[str]) -> Awaitable[dict[str, bytes]]:
        """Return the vectors of the points that exist, by their ids."""
        ...


Near = tuple[str, float]
"""Id and distance of a point."""


class RecallStore(Protocol):
    """Samples points, times single searches, and keeps what was measured."""

    def sample(self, collection: Collection, count: int) -> Awaitable[tuple[list[str], Matrix]]:
        """Return the ids and vectors of points by chance."""
        ...

    def queries(self, collection: Collection, count: int) -> Awaitable[list[QuerySample]]:
        """Return query samples by chance."""
        ...

    def exact(self, collection: Collection, vector: Matrix, *, limit: int) -> Awaitable[list[Near]]:
        """Return the nearest points, of all that there are."""
        ...

    def walk(
        self, collection: Collection, vector: Matrix, *, effort: int, limit: int, goes_on: bool
    ) -> Awaitable[tuple[list[Near], float]]:
        """Return the nearest points that a walk finds, and the milliseconds that it took.

        Args:
            collection: The collection.
            vector: A matrix of one row.
            effort: Candidates to keep, or lists to look into.
            limit: Number of points wanted.
            goes_on: Whether more lists are looked into where these have too few points.
        """
        ...

    def keep(self, collection: Collection, recall: Recall) -> Awaitable[datetime]:
        """Keep what was measured, in place of what was; return when."""
        ...


class QuerySampleStore(Protocol):
    """Keeps what was searched for."""

    def keep(self, collection: Collection, queries: Sequence[QuerySample]) -> Awaitable[None]:
        """Keep queries, in place of the oldest where there are as many as are wanted.

        Raises:
            CollectionGoneError: the collection is no longer there.
        """
        ...
