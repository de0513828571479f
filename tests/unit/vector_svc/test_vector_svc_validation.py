"""Names, ids and numbers of requests."""

import pytest

from stepwire.errors import Reason, StepwireError
from vector_svc.engine import fields as validation


@pytest.mark.parametrize("name", ["a", "a" * 63, "a-b_c9"])
def test_good_names_pass(name: str) -> None:
    validation.check_name(name, field="collection")


@pytest.mark.parametrize("name", ["", "a" * 64, "A", "9a", "-a", "a.b", 'a"; DROP', "a\n", "ä"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(StepwireError) as caught:
        validation.check_name(name, field="collection")
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.faults[0].field == "collection"


@pytest.mark.parametrize(
    ("ids", "field"),
    [
        ([], "points"),
        (["a"] * 10_001, "points"),
        (["a", ""], "points[1].id"),
        (["a" * 257], "points[0].id"),
        (["a\0"], "points[0].id"),
    ],
)
def test_bad_ids_are_refused(ids: list[str], field: str) -> None:
    with pytest.raises(StepwireError) as caught:
        validation.check_ids(ids, field="points", member=".id")
    assert caught.value.faults[0].field == field


def test_ids_may_be_long_and_in_any_script() -> None:
    validation.check_ids(["語" * 256, "a'b", " "], field="ids")


def test_the_second_of_two_equal_ids_is_named() -> None:
    with pytest.raises(StepwireError, match=r"points\[2\]\.id: is the id of points\[0\] already"):
        validation.check_unique(["a", "b", "a"], field="points", member=".id")
    validation.check_unique(["a", "b"], field="points", member=".id")


@pytest.mark.parametrize(("given", "limit"), [(0, 10), (1, 1), (1_000, 1_000)])
def test_limits_have_a_default(given: int, limit: int) -> None:
    assert validation.search_limit(given) == limit


@pytest.mark.parametrize("limit", [-1, 1_001])
def test_limits_have_bounds(limit: int) -> None:
    with pytest.raises(StepwireError, match="limit"):
        validation.search_limit(limit)


@pytest.mark.parametrize(("given", "size"), [(0, 50), (7, 7), (5_000, 1_000)])
def test_pages_have_a_default_and_a_most(given: int, size: int) -> None:
    assert validation.page_size_of(given) == size


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(StepwireError, match="page_size"):
        validation.page_size_of(-1)
