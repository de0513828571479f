"""How searches go is planned once for those that differ in their vectors alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from vector_svc.engine.records import Collection, CollectionConfig, Matrix, Metric, TextOptions
from vector_svc.filters.records import AnyOf, Node
from vector_svc.search import courses as module
from vector_svc.search.courses import Courses
from vector_svc.search.estimates import Estimates
from vector_svc.search.ports import Order, Prepared, Sizes
from vector_svc.search.records import Found, Plan, Search, WordQuery

MADE = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = CollectionConfig("things", 384, Metric.COSINE, text=TextOptions("text", "english"))
THINGS = Collection(1, "t", CONFIG, 1, CONFIG.index, MADE, MADE)
HALF = AnyOf(("half",), (1,))


class Sized:
    """A store that only knows how many points there are."""

    def __init__(self) -> None:
        self.points = 10_000
        self.prepared: list[Order] = []

    async def sizes(self, collection: Collection, *, at_most: int) -> Sizes:
        return Sizes(min(self.points, at_most), None)

    async def estimate(self, collection: Collection) -> int:
        return self.points

    async def count_matches(self, collection: Collection, filter_: Node, *, at_most: int) -> int:
        return min(self.points // 2, at_most)

    async def estimate_matches(self, collection: Collection, filter_: Node, *, rows: int) -> int:
        return rows // 2

    def prepare(self, collection: Collection, order: Order) -> Prepared:
        self.prepared.append(order)
        return Prepared(collection, order, "", ())

    async def search(self, prepared: Prepared, vector: Matrix | None) -> list[Found]:
        raise AssertionError("planning carries nothing out")

    async def search_together(self, *_: Any) -> list[list[Found]]:
        raise AssertionError("planning carries nothing out")

    async def vectors(self, collection: Collection, ids: Sequence[str]) -> dict[str, bytes]:
        raise AssertionError("planning carries nothing out")


@pytest.fixture
def store() -> Sized:
    return Sized()


@pytest.fixture
def estimates(store: Sized) -> Estimates:
    return Estimates(store, cache_entries=10, cache_seconds=3_600)


@pytest.fixture
def courses(store: Sized, estimates: Estimates) -> Courses:
    return Courses(store, estimates, hnsw_ef_search=64)


async def test_what_differs_in_its_vector_alone_goes_the_same_way(
    courses: Courses, store: Sized
) -> None:
    for search in (
        Search(10, vector=b"a"),
        Search(10, vector=b"b", path="searches[1]."),
        Search(10, text="c"),
    ):
        course = await courses.of(THINGS, search, near=True)
        assert course.report.plan is Plan.INDEX
    assert len(store.prepared) == 1


@pytest.mark.parametrize(
    "other",
    [
        Search(11),
        Search(10, offset=1),
        Search(10, filter=HALF),
        Search(10, exact=True),
        Search(10, include_vectors=True),
        Search(10, score_threshold=0.5),
        Search(10, ef_search=100),
        Search(10, words=WordQuery("boat", 1, 1, 60)),
    ],
)
async def test_what_differs_in_something_else_goes_its_own(
    courses: Courses, store: Sized, other: Search
) -> None:
    await courses.of(THINGS, Search(10), near=True)
    await courses.of(THINGS, other, near=True)
    first, second = store.prepared
    assert first != second


async def test_words_alone_go_another_way_than_words_beside_a_vector(courses: Courses) -> None:
    search = Search(10, words=WordQuery("boat", 1, 1, 60))
    plans = [(await courses.of(THINGS, search, near=near)).report.plan for near in (True, False)]
    assert plans == [Plan.INDEX, Plan.WORDS]


async def test_a_course_lasts_as_long_as_what_it_was_planned_by(
    courses: Courses, store: Sized, estimates: Estimates
) -> None:
    async def plan(collection: Collection) -> Plan:
        return (await courses.of(collection, Search(10, filter=HALF), near=True)).report.plan

    assert await plan(THINGS) is Plan.ITERATIVE
    assert await plan(replace(THINGS, built=None)) is Plan.FILTER_FIRST
    assert await plan(THINGS) is Plan.ITERATIVE
    store.points = 100
    assert await plan(THINGS) is Plan.ITERATIVE
    estimates.forget(THINGS)
    assert await plan(THINGS) is Plan.FILTER_FIRST
    assert await plan(replace(THINGS, id=2)) is Plan.FILTER_FIRST


async def test_no_more_courses_are_remembered_than_there_is_room_for(
    courses: Courses, store: Sized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COURSES", 2)
    for limit in (1, 2, 1, 3, 1):
        await courses.of(THINGS, Search(limit), near=True)
    assert [order.wanted for order in store.prepared] == [1, 2, 3, 1]
