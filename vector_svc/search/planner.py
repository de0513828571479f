"""Which way to search: the cheapest that finds enough points. Pure.

Two ways are open to a filtered search. Comparing with every match costs a unit per
match. Walking the index from the nearest point outwards and dropping what the filter
refuses costs some units per point looked at, and to find `limit` matches it looks at
`limit * rows / matches` points. The two cost the same at the number of matches that
`exact_up_to` returns: below it comparing with every match is cheaper, above it walking.

Few points are always compared one by one: that takes no longer, and misses none. A walk
can miss a point for good, whatever it may cost: among many points that nearly equal each
other, the edges that lead to one that does not are given up for shorter ones.
"""

import math
from enum import StrEnum

# A point looked at through the index costs this many times a point compared directly.
# Measured with 384 dimensions: 8.5 against 1.4 microseconds.
WALK_COST = 6.0
# What comparing with a point costs besides its values, in values: 0.7 nanoseconds a value,
# 0.15 microseconds a point (measured with 48 to 384 dimensions).
POINT_VALUES = 200
# Up to this cost, in values, points are always compared one by one: 0.8 ms, where a walk
# takes 0.4 to 0.7 ms. 2,054 points of 384 dimensions.
ALWAYS_EXACT_VALUES = 1_200_000
# So many points are always compared one by one, of whatever dimension they are.
ALWAYS_EXACT_LEAST = 1_000


class Plan(StrEnum):
    """A way to search."""

    EXACT = "exact"
    """Compare with every point, or every match of the filter."""
    INDEX = "index"
    """Walk the index; every point counts."""
    ITERATIVE = "iterative"
    """Walk the index, dropping what the filter refuses, until enough are found."""


def always_exact(dimension: int) -> int:
    """Return the number of points up to which all are compared, whatever a search asks."""
    return max(ALWAYS_EXACT_VALUES // (dimension + POINT_VALUES), ALWAYS_EXACT_LEAST)


def exact_up_to(*, rows: int, limit: int, dimension: int) -> int:
    """Return the most matches of a filter with which an exact search is the cheaper one.

    A power of two, so that counts of matches up to it can be kept while `rows` changes
    a little.

    Args:
        rows: Number of points in the collection, more or less.
        limit: Number of points wanted.
        dimension: Length of the collection's vectors.
    """
    break_even = math.ceil(math.sqrt(WALK_COST * limit * rows))
    most = max(break_even, always_exact(dimension), limit)
    return 1 << (most - 1).bit_length()


def plan_unfiltered(*, exact: bool, rows: int, dimension: int) -> Plan:
    """Choose the way for a search without a filter.

    Args:
        exact: Whether the caller asks for an exact search.
        rows: Number of points in the collection; above `always_exact`, more or less.
        dimension: Length of the collection's vectors.
    """
    return Plan.EXACT if exact or rows <= always_exact(dimension) else Plan.INDEX


def plan_filtered(*, exact: bool, matches: int, rows: int, limit: int, dimension: int) -> Plan:
    """Choose the way for a search with a filter.

    Args:
        exact: Whether the caller asks for an exact search.
        matches: Number of points that match; of more than `exact_up_to` any such number.
        rows: Number of points in the collection, more or less.
        limit: Number of points wanted.
        dimension: Length of the collection's vectors.
    """
    if exact or matches <= exact_up_to(rows=rows, limit=limit, dimension=dimension):
        return Plan.EXACT
    return Plan.ITERATIVE
