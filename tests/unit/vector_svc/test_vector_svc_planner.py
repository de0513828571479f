"""Which way a search takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_svc.search.planner import (
    WALK_COST,
    Plan,
    always_exact,
    exact_up_to,
    plan_filtered,
    plan_unfiltered,
)

rows_of = st.integers(0, 10**9)
limits = st.integers(1, 1_000)
dimensions = st.integers(1, 2_000)


@pytest.mark.parametrize(
    ("exact", "rows", "plan"),
    [
        (False, 0, Plan.EXACT),
        (False, always_exact(384), Plan.EXACT),
        (False, always_exact(384) + 1, Plan.INDEX),
        (True, 10**6, Plan.EXACT),
    ],
)
def test_without_a_filter_the_index_serves_what_is_large(
    *, exact: bool, rows: int, plan: Plan
) -> None:
    assert plan_unfiltered(exact=exact, rows=rows, dimension=384) is plan


@pytest.mark.parametrize(
    ("matches", "plan"),
    [(0, Plan.EXACT), (2_000, Plan.EXACT), (10_000, Plan.ITERATIVE), (50_000, Plan.ITERATIVE)],
)
def test_a_filter_that_leaves_many_walks_the_index(matches: int, plan: Plan) -> None:
    found = plan_filtered(exact=False, matches=matches, rows=100_000, limit=10, dimension=384)
    assert found is plan


def test_the_more_values_a_point_has_the_fewer_points_are_always_compared() -> None:
    assert [always_exact(dimension) for dimension in (1, 48, 384, 2_000)] == [
        *(5_970, 4_838, 2_054, 1_000)
    ]


@given(rows_of, limits, rows_of, dimensions)
def test_exact_means_exact(rows: int, limit: int, matches: int, dimension: int) -> None:
    plan = plan_filtered(exact=True, matches=matches, rows=rows, limit=limit, dimension=dimension)
    assert plan is Plan.EXACT


@given(rows_of, limits, dimensions)
def test_the_break_even_is_within_a_factor_of_two_of_where_the_costs_meet(
    rows: int, limit: int, dimension: int
) -> None:
    most = exact_up_to(rows=rows, limit=limit, dimension=dimension)
    least = max(always_exact(dimension), limit)
    assert most >= least
    walk = WALK_COST * limit * rows / most
    assert most >= walk * 0.999
    if most // 2 >= least:
        assert most / 2 <= WALK_COST * limit * rows / (most / 2)


@given(rows_of, limits, dimensions)
def test_one_more_than_the_most_is_already_walked(rows: int, limit: int, dimension: int) -> None:
    most = exact_up_to(rows=rows, limit=limit, dimension=dimension)
    for matches, plan in ((most, Plan.EXACT), (most + 1, Plan.ITERATIVE)):
        found = plan_filtered(
            exact=False, matches=matches, rows=rows, limit=limit, dimension=dimension
        )
        assert found is plan
