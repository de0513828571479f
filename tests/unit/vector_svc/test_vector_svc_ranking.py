"""What becomes of points once they are found."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from vector_svc.engine.records import Element
from vector_svc.search.ranking import (
    in_groups,
    matrix_of,
    middle,
    newer_first,
    unlike_each_other,
)
from vector_svc.search.records import Found, PayloadSelection, Recency

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def found(point_id: str, score: float, *, age: timedelta = DAY, **payload: Any) -> Found:
    return Found(point_id, json.dumps(payload).encode(), None, score=score, changed_at=NOW - age)


def ids(points: list[Found]) -> list[str]:
    return [each.id for each in points]


def test_half_of_what_new_points_gain_is_left_after_the_half_life() -> None:
    points = [found("old", 0.5, age=10 * DAY), found("day", 0.5), found("new", 0.5, age=-DAY)]
    ranked = newer_first(points, Recency(DAY, 0.2, ()), now=NOW)
    assert [(each.id, each.score) for each in ranked] == [
        ("new", pytest.approx(0.7)),
        ("day", pytest.approx(0.6)),
        ("old", pytest.approx(0.5 + 0.2 / 1024)),
    ]


def test_the_time_may_be_a_field_of_the_payload() -> None:
    points = [
        found("none", 0.5),
        found("no zone", 0.5, seen="2026-06-01T00:00:00"),
        found("no time", 0.5, seen=7),
        found("now", 0.4, seen="2026-06-01T00:00:00Z"),
    ]
    ranked = newer_first(points, Recency(DAY, 0.2, ("seen",)), now=NOW)
    assert ids(ranked) == ["now", "none", "no zone", "no time"]


def test_points_unlike_each_other_are_the_best_and_then_the_most_different() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0.6, 0.8], [0, 1]], dtype="f4")
    points = [found("a", 1.0), found("twin of a", 0.99), found("b", 0.7), found("c", 0.1)]
    assert ids(unlike_each_other(points, vectors, strength=0.5, limit=2)) == ["a", "b"]
    assert ids(unlike_each_other(points, vectors, strength=0.0, limit=3)) == ["a", "twin of a", "b"]
    assert ids(unlike_each_other(points, vectors, strength=1.0, limit=2)) == ["a", "c"]
    assert len(unlike_each_other(points, vectors, strength=0.5, limit=9)) == 4
    assert unlike_each_other([], vectors, strength=0.5, limit=9) == []


def test_groups_are_by_their_best_point_and_values_of_types_differ() -> None:
    points = [
        found("a", 0.9, doc="x"),
        found("b", 0.8, doc=1),
        found("c", 0.7, doc="x"),
        found("d", 0.6, doc=True),
        found("e", 0.5, doc=1.0),
        found("f", 0.4, doc=["x"]),
        found("g", 0.3),
        found("h", 0.2, doc="x"),
        found("i", 0.1, doc="too late"),
    ]
    groups = in_groups(points, ("doc",), limit=3, size=2)
    assert [(value, ids(group)) for value, group in groups] == [
        ("x", ["a", "c"]),
        (1, ["b", "e"]),
        (True, ["d"]),
    ]


def test_the_middle_is_as_far_again_from_what_is_unlike() -> None:
    positive, negative = np.array([[2, 0], [0, 2]], "f4"), np.array([[1, -1]], "f4")
    assert middle(positive, None).tolist() == [[1, 1]]
    assert middle(positive, negative).tolist() == [[1, 3]]


def test_bits_are_read_as_signs() -> None:
    assert matrix_of([b"\xa0"], Element.BINARY).tolist() == [[1, -1, 1, -1, -1, -1, -1, -1]]


def test_payloads_keep_what_is_wanted() -> None:
    payload = {"a": 1, "b": {"c": 2}, "d": 3}
    assert PayloadSelection().of(payload) == payload
    assert PayloadSelection(frozenset("ab"), frozenset("a")).of(payload) == {"b": {"c": 2}}
    assert PayloadSelection(exclude=frozenset("b")).of(payload) == {"a": 1, "d": 3}
    assert PayloadSelection(none=True).of(payload) == {}
