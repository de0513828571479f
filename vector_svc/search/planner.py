"""Which way to search: the cheapest that finds enough points. Pure.

Two ways are open to a filtered search. Comparing with every match costs a unit per
match. Walking the index from the nearest point outwards and dropping what the filter
refuses costs some units per point looked at, and to find `wanted` matches it looks at
`wanted * rows / matches` points. The two cost the same at the number of matches that
`exact_up_to` returns: below it comparing with every match is cheaper, above it walking.

Few points are always compared one by one: that takes no longer, and misses none. A walk
can miss a point for good, whatever it may cost: among many points that nearly equal each
other, the edges that lead to one that does not are given up for shorter ones. Where
measuring has shown that no walk reaches the recall that is asked, points are compared one
by one as long as there are not too many.
"""

import math
from dataclasses import dataclass
from typing import Final

from vector_svc.search.records import Figure, Plan, Recall

# A point looked at through the index costs this many times a point compared directly.
# Measured with 384 dimensions: 8.5 against 1.4 microseconds.
WALK_COST: Final = 6.0
# What comparing with a point costs besides its values, in values: 0.7 nanoseconds a value,
# 0.15 microseconds a point (measured with 48 to 384 dimensions).
POINT_VALUES: Final = 200
# Up to this cost, in values, points are always compared one by one: 0.8 ms, where a walk
# takes 0.4 to 0.7 ms. 2,054 points of 384 dimensions.
ALWAYS_EXACT_VALUES: Final = 1_200_000
# So many points are always compared one by one, of whatever dimension they are.
ALWAYS_EXACT_LEAST: Final = 1_000
# Up to this cost, in values, points are compared one by one if no walk reaches the recall
# asked for: about 25 ms. 51,369 points of 384 dimensions.
EXACT_INSTEAD_VALUES: Final = 30_000_000

# A filtered walk keeps so many times the candidates that reach a recall without a filter.
# Measured with 100,000 points of which a tenth fits: 0.92 with 20 candidates, which find
# 0.96 of the nearest without a filter, and 0.96 with 64, in no more time.
FILTERED_CANDIDATES: Final = 3

MAX_EF_SEARCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan depends on.

    Attributes:
        rows: Points in the collection; above `always_exact`, more or less.
        dimension: Length of their vectors.
        wanted: Points that are wanted of the index.
        exact: Whether the caller asks for an exact search.
        has_index: Whether there is an index to walk.
        matches: Points that the filter leaves; any number above `exact_up_to` stands for
            more; None without a filter.
        ef_search: Candidates that the caller wants kept; 0 for what is necessary.
        target_recall: Share of the nearest that is asked for; 0 for the measured target.
        recall: What was measured of the index; None if it was not.
    """

    rows: int
    dimension: int
    wanted: int
    exact: bool = False
    has_index: bool = True
    matches: int | None = None
    ef_search: int = 0
    target_recall: float = 0.0
    recall: Recall | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The way to go.

    Attributes:
        plan: The way.
        ef_search: Candidates to keep during a walk; 0 without one.
        points_compared: Points that it will compare, more or less.
        recall: Share of the nearest that it finds; 0 if that was not measured.
    """

    plan: Plan
    ef_search: int
    points_compared: int
    recall: float


def always_exact(dimension: int) -> int:
    """Return the number of points up to which all are compared, whatever a search asks."""
    return max(ALWAYS_EXACT_VALUES // (dimension + POINT_VALUES), ALWAYS_EXACT_LEAST)


def exact_up_to(*, rows: int, wanted: int, dimension: int) -> int:
    """Return the most matches of a filter with which an exact search is the cheaper one.

    A power of two, so that counts of matches up to it can be kept while `rows` changes
    a little.

    Args:
        rows: Number of points in the collection, more or less.
        wanted: Number of points wanted.
        dimension: Length of the collection's vectors.
    """
    break_even = math.ceil(math.sqrt(WALK_COST * wanted * rows))
    most = max(break_even, always_exact(dimension), wanted)
    return 1 << (most - 1).bit_length()


def decide(situation: Situation, *, default_ef_search: int) -> Decision:
    """Choose the way of a search.

    Args:
        situation: What it depends on.
        default_ef_search: Candidates to keep as long as nothing was measured.
    """
    if not _worth_a_walk(situation):
        return exactly(situation)
    ef_search, recall = _ef_search(situation, default_ef_search)
    if ef_search is None:
        return exactly(situation)
    matches = situation.matches
    if matches is None:
        return Decision(Plan.INDEX, ef_search, max(ef_search, situation.wanted), recall)
    looked_at = math.ceil(situation.wanted * situation.rows / max(matches, 1))
    return Decision(Plan.ITERATIVE, ef_search, max(ef_search, looked_at), recall)


def exactly(situation: Situation) -> Decision:
    """Return the exact way."""
    if situation.matches is None:
        return Decision(Plan.EXACT, 0, situation.rows, 1.0)
    return Decision(Plan.FILTER_FIRST, 0, situation.matches, 1.0)


def recall_of(figures: tuple[Figure, ...], ef_search: int) -> float:
    """Return the recall measured with the most candidates up to `ef_search`; 0 if none was."""
    return max((each.recall for each in figures if each.ef_search <= ef_search), default=0.0)


def _worth_a_walk(situation: Situation) -> bool:
    rows, dimension = situation.rows, situation.dimension
    if situation.exact or not situation.has_index or rows <= always_exact(dimension):
        return False
    if situation.matches is None:
        return True
    return situation.matches > exact_up_to(rows=rows, wanted=situation.wanted, dimension=dimension)


def _ef_search(situation: Situation, default: int) -> tuple[int | None, float]:
    """Return the candidates to keep and their recall; None if only an exact search will do."""
    figures = situation.recall.figures if situation.recall else ()
    if situation.ef_search:
        ef_search = max(situation.ef_search, min(situation.wanted, MAX_EF_SEARCH))
        return ef_search, recall_of(figures, ef_search)
    if situation.recall is None or not figures:
        # As long as nothing was measured, more candidates for more is the only guess.
        least = MAX_EF_SEARCH if situation.target_recall >= 1 else default
        return max(least, min(situation.wanted, MAX_EF_SEARCH)), 0.0
    target = situation.target_recall or situation.recall.target
    enough = next((each.ef_search for each in figures if each.recall >= target), None)
    if enough is None:
        cost = situation.rows * (situation.dimension + POINT_VALUES)
        if cost <= EXACT_INSTEAD_VALUES:
            return None, 1.0
        enough = figures[-1].ef_search
    reached = min(max(enough, situation.wanted), MAX_EF_SEARCH)
    recall = recall_of(figures, reached)
    if situation.matches is None:
        return reached, recall
    return min(max(enough * FILTERED_CANDIDATES, reached), MAX_EF_SEARCH), recall
