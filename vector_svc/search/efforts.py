"""How far a walk through an index goes, from what was measured of such walks. Pure.

The effort of a walk is the number of candidates that it keeps in an HNSW index, or of lists
that it looks into in an IVFFlat index (`probes`).

A list holds what is near to its centre, so that the lists of the ten nearest points say
little of where the hundred nearest are. A walk that drops nine of ten points finds its ten
among the hundred nearest: it needs the lists of these (measured: it finds the same share of
them as a walk for a hundred without a filter). Recall through lists is therefore measured
for several numbers of nearest points, and a walk takes what its own number needs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vector_svc.engine.records import IndexKind, IndexOptions
from vector_svc.search.records import Figure

MAX_EF_SEARCH: Final = 1_000
MAX_PROBES: Final = 32_768

# A filtered walk of HNSW keeps so many times the candidates that reach a recall without a
# filter. Measured with 100,000 points of which a tenth fits: 0.92 with 20 candidates, which
# find 0.96 of the nearest without a filter, and 0.96 with 64, in no more time.
FILTERED_CANDIDATES: Final = 3

_EF_SEARCHES: Final = (20, 40, 64, 100, 150, 200, 300, 400, 600, MAX_EF_SEARCH)
# By so many times more lists each, rounded.
_GROWTH: Final = math.sqrt(2)
_NEARESTS: Final = (10, 30, 100, 300, 1_000)
# As long as nothing was measured, so many of the nearest are taken to be in the root of all
# lists.
_USUAL: Final = 10


@dataclass(frozen=True, slots=True)
class Walk:
    """What the effort of a walk depends on.

    Attributes:
        index: The index.
        wanted: Points that are wanted of it.
        among: Number of nearest points among which these are: `wanted` without a filter.
        filtered: Whether a filter drops points on the way.
        asked: Effort that the caller wants; 0 for what is necessary.
        target: Share of the nearest to be found; 0 as long as none was set.
        figures: What was measured of the index; empty if nothing was.
        default_ef_search: Candidates to keep as long as nothing was measured.
    """

    index: IndexOptions
    wanted: int
    among: int
    filtered: bool
    asked: int
    target: float
    figures: tuple[Figure, ...]
    default_ef_search: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How far a walk goes.

    Attributes:
        value: Candidates or lists.
        recall: Share of the nearest that it finds; 0 if that was not measured.
        enough: Whether it reaches the target, as far as that is known.
    """

    value: int
    recall: float
    enough: bool = True


def ladder(index: IndexOptions) -> tuple[int, ...]:
    """Return the efforts to measure an index by, rising."""
    if index.kind is not IndexKind.IVFFLAT:
        return _EF_SEARCHES
    return (*_below(index.lists), index.lists)


def nearests(index: IndexOptions, limit: int) -> tuple[int, ...]:
    """Return the numbers of nearest points for which an index is to be measured, rising."""
    if index.kind is not IndexKind.IVFFLAT:
        return (limit,)
    return (limit, *(each for each in _NEARESTS if each > limit))


def fewest(figures: Sequence[Figure], target: float) -> Figure | None:
    """Return the figure of the least effort that reaches a recall; None if none does."""
    return next((each for each in figures if each.recall >= target), None)


def recall_of(figures: tuple[Figure, ...], effort: int) -> float:
    """Return the recall measured with the most effort up to this; 0 if none was."""
    return max((each.recall for each in figures if each.effort <= effort), default=0.0)


def effort_of(walk: Walk) -> Effort:
    """Return how far a walk is to go."""
    if walk.index.kind is IndexKind.IVFFLAT:
        return _probes(walk)
    return _ef_search(walk)


def _below(lists: int) -> Iterator[int]:
    probes = 1.0
    last = 0
    while round(probes) < lists:
        if round(probes) > last:
            last = round(probes)
            yield last
        probes *= _GROWTH


def _ef_search(walk: Walk) -> Effort:
    wanted = min(walk.wanted, MAX_EF_SEARCH)
    if walk.asked:
        ef_search = max(walk.asked, wanted)
        return Effort(ef_search, recall_of(walk.figures, ef_search))
    if not walk.figures:
        # As long as nothing was measured, more candidates for more is the only guess.
        least = MAX_EF_SEARCH if walk.target >= 1 else walk.default_ef_search
        return Effort(max(least, wanted), 0.0)
    found = fewest(walk.figures, walk.target)
    enough = (found or walk.figures[-1]).effort
    reached = min(max(enough, wanted), MAX_EF_SEARCH)
    recall = recall_of(walk.figures, reached)
    if walk.filtered:
        reached = min(max(enough * FILTERED_CANDIDATES, reached), MAX_EF_SEARCH)
    return Effort(reached, recall, found is not None)


def _probes(walk: Walk) -> Effort:
    lists = walk.index.lists
    measured = max((each.nearest for each in walk.figures), default=0)
    fitting = min(
        (each.nearest for each in walk.figures if each.nearest >= walk.among), default=measured
    )
    figures = tuple(each for each in walk.figures if each.nearest == fitting)
    known = walk.among <= measured
    if walk.asked:
        probes = min(walk.asked, lists)
        return Effort(probes, recall_of(figures, probes) if known else 0.0)
    if not figures:
        if walk.target >= 1:
            return Effort(lists, 0.0)
        return Effort(_more(math.sqrt(lists), walk.among / _USUAL, lists), 0.0)
    found = fewest(figures, walk.target)
    best = found or figures[-1]
    if known:
        return Effort(best.effort, best.recall, found is not None)
    return Effort(_more(best.effort, walk.among / measured, lists), 0.0, found is not None)


def _more(probes: float, times: float, lists: int) -> int:
    """Return the lists for so many times the points: as many as the root of that more.

    A guess. Measured with 100 lists, 0.9 of the nearest are in 1 list if these are 10, in 1
    if they are 100, and in 64 if they are 1,000.
    """
    return min(math.ceil(probes * math.sqrt(max(times, 1.0))), lists)
