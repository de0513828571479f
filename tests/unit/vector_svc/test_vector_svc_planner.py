"""Which way a search takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_svc.planner import (
    ALWAYS_EXACT,
    WALK_COST,
    Plan,
    exact_up_to,
    plan_filtered,
    plan_unfiltered,
)

rows_of = st.integers(0, 10**9)
limits = st.integers(1, 1_000)


@pytest.mark.parametrize(
    ("exact", "rows", "plan"),
    [
        (False, 0, Plan.EXACT),
        (False, ALWAYS_EXACT, Plan.EXACT),
        (False, ALWAYS_EXACT + 1, Plan.INDEX),
        (True, 10**6, Plan.EXACT),
    ],
)
def test_without_a_filter_the_index_serves_what_is_large(
    *, exact: bool, rows: int, plan: Plan
) -> None:
    assert plan_unfiltered(exact=exact, rows=rows) is plan


@pytest.mark.parametrize(
    ("matches", "plan"),
    [(0, Plan.EXACT), (2_000, Plan.EXACT), (10_000, Plan.ITERATIVE), (50_000, Plan.ITERATIVE)],
)
def test_a_filter_that_leaves_many_walks_the_index(matches: int, plan: Plan) -> None:
    assert plan_filtered(exact=False, matches=matches, rows=100_000, limit=10) is plan


@given(rows_of, limits, rows_of)
def test_exact_means_exact(rows: int, limit: int, matches: int) -> None:
    assert plan_filtered(exact=True, matches=matches, rows=rows, limit=limit) is Plan.EXACT


@given(rows_of, limits)
def test_the_break_even_is_within_a_factor_of_two_of_where_the_costs_meet(
    rows: int, limit: int
) -> None:
    most = exact_up_to(rows=rows, limit=limit)
    assert most >= max(ALWAYS_EXACT, limit)
    walk = WALK_COST * limit * rows / most
    assert most >= walk * 0.999
    if most // 2 >= max(ALWAYS_EXACT, limit):
        assert most / 2 <= WALK_COST * limit * rows / (most / 2)


@given(rows_of, limits)
def test_one_more_than_the_most_is_already_walked(rows: int, limit: int) -> None:
    most = exact_up_to(rows=rows, limit=limit)
    assert plan_filtered(exact=False, matches=most, rows=rows, limit=limit) is Plan.EXACT
    assert plan_filtered(exact=False, matches=most + 1, rows=rows, limit=limit) is Plan.ITERATIVE
