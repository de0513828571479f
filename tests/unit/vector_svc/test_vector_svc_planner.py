"""Which way a search takes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_svc.search.planner import (
    EXACT_INSTEAD_VALUES,
    MAX_EF_SEARCH,
    POINT_VALUES,
    WALK_COST,
    Decision,
    Situation,
    always_exact,
    decide,
    exact_up_to,
)
from vector_svc.search.records import Figure, Plan, Recall

rows_of = st.integers(0, 10**9)
limits = st.integers(1, 1_000)
dimensions = st.integers(1, 2_000)

LARGE = Situation(rows=100_000, dimension=384, wanted=10)
MEASURED = Recall(
    target=0.95,
    figures=(Figure(40, 0.9, 0.4), Figure(100, 0.96, 0.7), Figure(200, 0.99, 1.1)),
    unreachable=0.0,
    samples=100,
    measured_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def plan(situation: Situation) -> Decision:
    return decide(situation, default_ef_search=64)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (replace(LARGE, rows=0), Plan.EXACT),
        (replace(LARGE, rows=always_exact(384)), Plan.EXACT),
        (replace(LARGE, rows=always_exact(384) + 1), Plan.INDEX),
        (replace(LARGE, exact=True), Plan.EXACT),
        (replace(LARGE, has_index=False), Plan.EXACT),
        (replace(LARGE, matches=0), Plan.FILTER_FIRST),
        (replace(LARGE, matches=2_000), Plan.FILTER_FIRST),
        (replace(LARGE, matches=10_000), Plan.ITERATIVE),
        (replace(LARGE, matches=50_000), Plan.ITERATIVE),
        (replace(LARGE, matches=50_000, has_index=False), Plan.FILTER_FIRST),
    ],
)
def test_the_cheapest_way_is_taken(situation: Situation, expected: Plan) -> None:
    assert plan(situation).plan is expected


def test_the_more_values_a_point_has_the_fewer_points_are_always_compared() -> None:
    assert [always_exact(dimension) for dimension in (1, 48, 384, 2_000)] == [
        *(5_970, 4_838, 2_054, 1_000)
    ]


def test_a_walk_keeps_what_the_target_was_measured_to_take() -> None:
    measured = replace(LARGE, recall=MEASURED)
    assert plan(measured) == Decision(Plan.INDEX, 100, 100, 0.96)
    assert plan(replace(measured, target_recall=0.98)) == Decision(Plan.INDEX, 200, 200, 0.99)
    assert plan(replace(measured, target_recall=0.5)).ef_search == 40
    filtered = replace(measured, matches=measured.rows, target_recall=0.5)
    assert plan(filtered).ef_search == 120
    assert plan(filtered).recall == plan(replace(measured, target_recall=0.5)).recall
    assert plan(replace(measured, ef_search=150)) == Decision(Plan.INDEX, 150, 150, 0.96)
    assert plan(replace(measured, wanted=500)) == Decision(Plan.INDEX, 500, 500, 0.99)


def test_where_no_walk_is_enough_a_search_is_exact_while_that_can_be_paid() -> None:
    most = EXACT_INSTEAD_VALUES // (384 + POINT_VALUES)
    asked = replace(LARGE, recall=MEASURED, target_recall=1.0, rows=most)
    assert plan(asked) == Decision(Plan.EXACT, 0, most, 1.0)
    assert plan(replace(asked, rows=most + 1)) == Decision(Plan.INDEX, 200, 200, 0.99)


def test_as_long_as_nothing_was_measured_recall_is_a_guess() -> None:
    assert plan(LARGE) == Decision(Plan.INDEX, 64, 64, 0.0)
    assert plan(replace(LARGE, target_recall=1.0)).ef_search == MAX_EF_SEARCH
    assert plan(replace(LARGE, ef_search=300)) == Decision(Plan.INDEX, 300, 300, 0.0)
    # A target was set when there was no index to measure yet.
    unmeasured = replace(LARGE, rows=10_000, recall=replace(MEASURED, figures=(), samples=0))
    assert plan(unmeasured) == Decision(Plan.INDEX, 64, 64, 0.0)


def test_a_walk_with_a_filter_says_how_many_points_it_will_look_at() -> None:
    assert plan(replace(LARGE, matches=10_000)).points_compared == 100
    assert plan(replace(LARGE, matches=2_000)).points_compared == 2_000


@given(rows_of, limits, rows_of, dimensions)
def test_exact_means_exact(rows: int, wanted: int, matches: int, dimension: int) -> None:
    asked = Situation(rows=rows, dimension=dimension, wanted=wanted, exact=True, matches=matches)
    assert plan(asked).plan is Plan.FILTER_FIRST
    assert plan(replace(asked, matches=None)).plan is Plan.EXACT


@given(rows_of, limits, dimensions)
def test_the_break_even_is_within_a_factor_of_two_of_where_the_costs_meet(
    rows: int, wanted: int, dimension: int
) -> None:
    most = exact_up_to(rows=rows, wanted=wanted, dimension=dimension)
    least = max(always_exact(dimension), wanted)
    assert most >= least
    walk = WALK_COST * wanted * rows / most
    assert most >= walk * 0.999
    if most // 2 >= least:
        assert most / 2 <= WALK_COST * wanted * rows / (most / 2)


@given(st.integers(10_000, 10**9), limits, dimensions)
def test_one_more_than_the_most_is_already_walked(rows: int, wanted: int, dimension: int) -> None:
    most = exact_up_to(rows=rows, wanted=wanted, dimension=dimension)
    asked = Situation(rows=rows, dimension=dimension, wanted=wanted, matches=most)
    assert plan(asked).plan is Plan.FILTER_FIRST
    assert plan(replace(asked, matches=most + 1)).plan is Plan.ITERATIVE
