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

A walk through lists compares every point of them. What it costs follows from how many it
looks into, and comparing with every match is cheaper below as many matches as cost that.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from vector_svc.engine.records import IndexKind, IndexOptions, Quantization
from vector_svc.search.efforts import MAX_EF_SEARCH, Effort, Walk, effort_of
from vector_svc.search.records import Plan, Recall

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

# So many points of lists that are looked into cost as much as one match compared. Measured
# with 384 dimensions: 0.6 against 1.3 to 3.1 microseconds.
LISTED_PER_MATCH: Final = 3.0

# Of the nearest points a filter leaves a share by chance: to have those that are wanted, so
# many standard deviations more are looked for. Measured without: 0.88 of ten of a tenth,
# where 0.96 of the hundred nearest were found, and 0.35 of the three hundred nearest.
DEVIATIONS: Final = 2.0

# Candidates of a shortened index per point wanted, that are ranked by their whole vectors.
OVERSAMPLING: Final = {Quantization.NONE: 1.0, Quantization.HALF: 2.0, Quantization.BINARY: 4.0}
# Most of them.
MAX_RANKED: Final = 10_000

HNSW: Final = IndexOptions()


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan depends on.

    Attributes:
        rows: Points in the collection; above `always_exact`, more or less.
        dimension: Length of their vectors.
        wanted: Points that are wanted of the index.
        exact: Whether the caller asks for an exact search.
        index: The index to walk; None if there is none.
        matches: Points that the filter leaves; any number above `exact_up_to` stands for
            more; None without a filter.
        effort: Candidates or lists that the caller wants; 0 for what is necessary.
        target_recall: Share of the nearest that is asked for; 0 for the measured target.
        recall: What was measured of the index; None if it was not.
        default_ef_search: Candidates to keep as long as nothing was measured.
    """

    rows: int
    dimension: int
    wanted: int
    exact: bool = False
    index: IndexOptions | None = HNSW
    matches: int | None = None
    effort: int = 0
    target_recall: float = 0.0
    recall: Recall | None = None
    default_ef_search: int = 64


@dataclass(frozen=True, slots=True)
class Decision:
    """The way to go.

    Attributes:
        plan: The way.
        effort: Candidates to keep, or lists to look into, during a walk; 0 without one.
        points_compared: Points that it will compare, more or less.
        recall: Share of the nearest that it finds; 0 if that was not measured.
        most_lists: Lists to look into before a walk gives up; 0 without one of lists.
    """

    plan: Plan
    effort: int
    points_compared: int
    recall: float
    most_lists: int = 0


def always_exact(dimension: int) -> int:
    """Return the number of points up to which all are compared, whatever a search asks."""
    return max(ALWAYS_EXACT_VALUES // (dimension + POINT_VALUES), ALWAYS_EXACT_LEAST)


def exact_up_to(situation: Situation) -> int:
    """Return the most matches of a filter with which an exact search is the cheaper one.

    With more a walk is; through lists it may be with fewer as well. A power of two, so that
    counts of matches up to it can be kept while the number of points changes a little.
    `situation.matches` does not count.
    """
    least = max(always_exact(situation.dimension), situation.wanted)
    if _of_lists(situation.index):
        most = _power_of_two(least)
        while most < situation.rows and most <= _walk_in_matches(situation, most):
            most *= 2
        return most
    break_even = math.ceil(math.sqrt(WALK_COST * situation.wanted * situation.rows))
    return _power_of_two(max(break_even, least))


def decide(situation: Situation) -> Decision:
    """Choose the way of a search."""
    if situation.index is None or not _worth_a_walk(situation):
        return exactly(situation)
    effort = _effort(situation, situation.index, situation.matches)
    if not effort.enough:
        cost = situation.rows * (situation.dimension + POINT_VALUES)
        if cost <= EXACT_INSTEAD_VALUES:
            return exactly(situation)
    plan = Plan.INDEX if situation.matches is None else Plan.ITERATIVE
    among = _among(situation, situation.wanted, situation.matches)
    if not _of_lists(situation.index):
        return Decision(plan, effort.value, max(effort.value, among), effort.recall)
    return _through_lists(situation, plan, effort, among)


def exactly(situation: Situation) -> Decision:
    """Return the exact way."""
    if situation.matches is None:
        return Decision(Plan.EXACT, 0, situation.rows, 1.0)
    return Decision(Plan.FILTER_FIRST, 0, situation.matches, 1.0)


def ranked_by_whole_vectors(
    decision: Decision, index: IndexOptions, *, wanted: int, oversampling: float
) -> tuple[Decision, int]:
    """Return a decision, and how many candidates of a shortened index are to be ranked.

    Args:
        decision: The decision.
        index: The index.
        wanted: Number of points wanted.
        oversampling: Candidates per point wanted that the caller asks for; 0 for as many as
            are usual, and all that a walk keeps.
    """
    shortened = index.quantization is not Quantization.NONE
    usual = oversampling or OVERSAMPLING[index.quantization]
    candidates = min(round(wanted * usual), MAX_RANKED)
    if not shortened or not decision.plan.walks or _of_lists(index):
        return decision, candidates
    # A walk gives as many points as it keeps candidates.
    effort = min(max(decision.effort, candidates), MAX_EF_SEARCH)
    return replace(decision, effort=effort), candidates if oversampling else max(candidates, effort)


def _worth_a_walk(situation: Situation) -> bool:
    if situation.exact or situation.rows <= always_exact(situation.dimension):
        return False
    matches = situation.matches
    if matches is None:
        return True
    if not _of_lists(situation.index):
        return matches > exact_up_to(situation)
    least = max(always_exact(situation.dimension), situation.wanted)
    return matches > least and matches > _walk_in_matches(situation, matches)


def _effort(situation: Situation, index: IndexOptions, matches: int | None) -> Effort:
    recall = situation.recall
    return effort_of(
        Walk(
            index=index,
            wanted=situation.wanted,
            among=_nearly_surely_among(situation, matches),
            filtered=matches is not None,
            asked=situation.effort,
            target=situation.target_recall or (recall.target if recall else 0.0),
            figures=recall.figures if recall else (),
            default_ef_search=situation.default_ef_search,
        )
    )


def _among(situation: Situation, wanted: float, matches: int | None) -> int:
    """Return the number of nearest points of which a filter leaves so many, on average."""
    if matches is None:
        return math.ceil(wanted)
    return math.ceil(wanted * situation.rows / max(matches, 1))


def _nearly_surely_among(situation: Situation, matches: int | None) -> int:
    """Return the number of nearest points among which the wanted ones nearly surely are."""
    wanted: float = situation.wanted
    if matches is not None and matches < situation.rows:
        wanted += DEVIATIONS * math.sqrt(wanted)
    return _among(situation, wanted, matches)


def _of_lists(index: IndexOptions | None) -> bool:
    return index is not None and index.kind is IndexKind.IVFFLAT


def _walk_in_matches(situation: Situation, matches: int) -> float:
    """Return how many matches cost as much to compare as a walk that so many are left to."""
    assert situation.index is not None
    probes = _effort(situation, situation.index, matches).value
    return probes * situation.rows / situation.index.lists / LISTED_PER_MATCH


def _through_lists(situation: Situation, plan: Plan, effort: Effort, among: int) -> Decision:
    """Return a walk that gives up once comparing with every match would have cost as much."""
    assert situation.index is not None
    lists = situation.index.lists
    per_list = situation.rows / lists
    most = lists
    if situation.matches is not None:
        most = math.ceil(situation.matches * LISTED_PER_MATCH / per_list)
    return Decision(
        plan,
        effort.value,
        max(math.ceil(effort.value * per_list), among),
        effort.recall,
        most_lists=min(max(most, effort.value), lists),
    )


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
