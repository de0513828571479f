"""Which way a search takes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_svc.engine.records import IndexKind, IndexOptions, Quantization
from vector_svc.search.efforts import MAX_EF_SEARCH, ladder, nearests
from vector_svc.search.planner import (
    EXACT_INSTEAD_VALUES,
    HNSW,
    LISTED_PER_MATCH,
    POINT_VALUES,
    WALK_COST,
    Decision,
    Situation,
    always_exact,
    decide,
    exact_up_to,
    ranked_by_whole_vectors,
)
from vector_svc.search.records import Figure, Plan, Recall, RecallQueries

rows_of = st.integers(0, 10**9)
limits = st.integers(1, 1_000)
dimensions = st.integers(1, 2_000)

LARGE = Situation(rows=100_000, dimension=384, wanted=10)
LISTS = IndexOptions(kind=IndexKind.IVFFLAT, lists=100)
LISTED = replace(LARGE, index=LISTS)
MEASURED = Recall(
    target=0.95,
    index=HNSW,
    figures=(Figure(40, 0.9, 0.4, 10), Figure(100, 0.96, 0.7, 10), Figure(200, 0.99, 1.1, 10)),
    unreachable=0.0,
    samples=100,
    queries=RecallQueries.POINTS,
    measured_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (replace(LARGE, rows=0), Plan.EXACT),
        (replace(LARGE, rows=always_exact(384)), Plan.EXACT),
        (replace(LARGE, rows=always_exact(384) + 1), Plan.INDEX),
        (replace(LARGE, exact=True), Plan.EXACT),
        (replace(LARGE, index=None), Plan.EXACT),
        (replace(LARGE, matches=0), Plan.FILTER_FIRST),
        (replace(LARGE, matches=2_000), Plan.FILTER_FIRST),
        (replace(LARGE, matches=10_000), Plan.ITERATIVE),
        (replace(LARGE, matches=50_000), Plan.ITERATIVE),
        (replace(LARGE, matches=50_000, index=None), Plan.FILTER_FIRST),
    ],
)
def test_the_cheapest_way_is_taken(situation: Situation, expected: Plan) -> None:
    assert decide(situation).plan is expected


def test_the_more_values_a_point_has_the_fewer_points_are_always_compared() -> None:
    assert [always_exact(dimension) for dimension in (1, 48, 384, 2_000)] == [
        *(5_970, 4_838, 2_054, 1_000)
    ]


def test_a_walk_keeps_what_the_target_was_measured_to_take() -> None:
    measured = replace(LARGE, recall=MEASURED)
    assert decide(measured) == Decision(Plan.INDEX, 100, 100, 0.96)
    assert decide(replace(measured, target_recall=0.98)) == Decision(Plan.INDEX, 200, 200, 0.99)
    assert decide(replace(measured, target_recall=0.5)).effort == 40
    filtered = replace(measured, matches=measured.rows, target_recall=0.5)
    assert decide(filtered).effort == 120
    assert decide(filtered).recall == decide(replace(measured, target_recall=0.5)).recall
    assert decide(replace(measured, effort=150)) == Decision(Plan.INDEX, 150, 150, 0.96)
    assert decide(replace(measured, wanted=500)) == Decision(Plan.INDEX, 500, 500, 0.99)


def test_where_no_walk_is_enough_a_search_is_exact_while_that_can_be_paid() -> None:
    most = EXACT_INSTEAD_VALUES // (384 + POINT_VALUES)
    asked = replace(LARGE, recall=MEASURED, target_recall=1.0, rows=most)
    assert decide(asked) == Decision(Plan.EXACT, 0, most, 1.0)
    assert decide(replace(asked, rows=most + 1)) == Decision(Plan.INDEX, 200, 200, 0.99)


def test_as_long_as_nothing_was_measured_recall_is_a_guess() -> None:
    assert decide(LARGE) == Decision(Plan.INDEX, 64, 64, 0.0)
    assert decide(replace(LARGE, target_recall=1.0)).effort == MAX_EF_SEARCH
    assert decide(replace(LARGE, effort=300)) == Decision(Plan.INDEX, 300, 300, 0.0)
    # A target was set when there was no index to measure yet.
    unmeasured = replace(LARGE, rows=10_000, recall=replace(MEASURED, figures=(), samples=0))
    assert decide(unmeasured) == Decision(Plan.INDEX, 64, 64, 0.0)


def test_a_walk_with_a_filter_says_how_many_points_it_will_look_at() -> None:
    assert decide(replace(LARGE, matches=10_000)).points_compared == 100
    assert decide(replace(LARGE, matches=2_000)).points_compared == 2_000


MEASURED_LISTS = replace(
    MEASURED,
    index=LISTS,
    figures=(
        *(Figure(1, 0.9, 0.8, 10), Figure(2, 0.96, 1.7, 10), Figure(16, 1.0, 12.0, 10)),
        *(Figure(2, 0.8, 1.8, 100), Figure(32, 0.97, 23.0, 100), Figure(64, 0.99, 39.0, 100)),
    ),
)


def test_efforts_rise_to_all_lists_and_recall_is_measured_for_more_points_than_are_wanted() -> None:
    lists = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 100)
    assert ladder(LISTS) == lists
    assert ladder(replace(LISTS, lists=1)) == (1,)
    assert nearests(LISTS, 30) == (30, 100, 300, 1_000)
    assert ladder(HNSW)[-1] == MAX_EF_SEARCH
    assert nearests(HNSW, 30) == (30,)


def test_a_walk_looks_into_as_many_lists_as_its_points_were_measured_to_take() -> None:
    measured = replace(LISTED, recall=MEASURED_LISTS)
    assert decide(measured) == Decision(Plan.INDEX, 2, 2_000, 0.96, most_lists=100)
    assert decide(replace(measured, wanted=11)).effort == 32
    assert decide(replace(measured, effort=16)).recall == 1.0
    assert decide(replace(measured, effort=500)).effort == 100
    # Ten points that a fifth leaves are among the 50 nearest, or 82 by chance. Where it has
    # cost as much as comparing with all 20,000, the walk gives up.
    fifth = replace(measured, matches=20_000)
    assert decide(fifth) == Decision(Plan.ITERATIVE, 32, 32_000, 0.97, most_lists=60)
    # A tenth of them is compared in less time than 32 lists.
    assert decide(replace(measured, matches=10_000)).plan is Plan.FILTER_FIRST
    # Four times as many as were measured: twice the lists, and nobody knows what they find.
    assert decide(replace(measured, wanted=400)) == Decision(
        Plan.INDEX, 64, 64_000, 0.0, most_lists=100
    )


def test_as_long_as_no_lists_were_measured_they_are_a_guess() -> None:
    assert decide(LISTED) == Decision(Plan.INDEX, 10, 10_000, 0.0, most_lists=100)
    assert decide(replace(LISTED, wanted=40)).effort == 20
    assert decide(replace(LISTED, matches=25_000)).effort == 26
    assert decide(replace(LISTED, target_recall=1.0)).effort == 100
    assert decide(replace(LISTED, effort=3)).effort == 3


def test_what_was_measured_of_another_index_is_forgotten() -> None:
    assert MEASURED_LISTS.of(LISTS) is MEASURED_LISTS
    other = MEASURED_LISTS.of(replace(LISTS, lists=50))
    assert (other.figures, other.target) == ((), 0.95)


def test_a_shortened_index_gives_all_that_a_walk_keeps_to_be_ranked() -> None:
    """That is what was measured; who asks for less gets less."""
    walk = Decision(Plan.INDEX, 100, 100, 0.96)
    bits = IndexOptions(quantization=Quantization.BINARY)
    for asked, kept in ((0, (100, 100)), (20, (200, 200)), (2, (100, 20))):
        ranked, candidates = ranked_by_whole_vectors(walk, bits, wanted=10, oversampling=asked)
        assert (ranked.effort, candidates) == kept
    listed = replace(LISTS, quantization=Quantization.HALF)
    assert ranked_by_whole_vectors(walk, listed, wanted=10, oversampling=0) == (walk, 20)


@given(rows_of, limits, rows_of, dimensions)
def test_exact_means_exact(rows: int, wanted: int, matches: int, dimension: int) -> None:
    asked = Situation(rows=rows, dimension=dimension, wanted=wanted, exact=True, matches=matches)
    assert decide(asked).plan is Plan.FILTER_FIRST
    assert decide(replace(asked, matches=None)).plan is Plan.EXACT


@given(rows_of, limits, dimensions)
def test_the_break_even_is_within_a_factor_of_two_of_where_the_costs_meet(
    rows: int, wanted: int, dimension: int
) -> None:
    most = exact_up_to(Situation(rows=rows, wanted=wanted, dimension=dimension))
    least = max(always_exact(dimension), wanted)
    assert most >= least
    walk = WALK_COST * wanted * rows / most
    assert most >= walk * 0.999
    if most // 2 >= least:
        assert most / 2 <= WALK_COST * wanted * rows / (most / 2)


@given(st.integers(10_000, 10**9), limits, dimensions)
def test_one_more_than_the_most_is_already_walked(rows: int, wanted: int, dimension: int) -> None:
    asked = Situation(rows=rows, dimension=dimension, wanted=wanted)
    most = exact_up_to(asked)
    asked = replace(asked, matches=most)
    assert decide(asked).plan is Plan.FILTER_FIRST
    assert decide(replace(asked, matches=most + 1)).plan is Plan.ITERATIVE


@given(st.integers(10_000, 10**7), limits, st.sampled_from([None, MEASURED_LISTS]), rows_of)
def test_lists_are_looked_into_where_that_costs_less(
    rows: int, wanted: int, recall: Recall | None, matches: int
) -> None:
    asked = replace(LISTED, rows=rows, wanted=wanted, recall=recall)
    decision = decide(replace(asked, matches=matches))
    if matches > exact_up_to(asked):
        assert decision.plan is Plan.ITERATIVE
    if decision.plan is Plan.ITERATIVE:
        assert matches >= decision.effort * rows / LISTS.lists / LISTED_PER_MATCH
        assert decision.effort <= decision.most_lists <= LISTS.lists
    else:
        assert decision.plan is Plan.FILTER_FIRST
