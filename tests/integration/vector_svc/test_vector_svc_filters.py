"""Filters in SQL mean what they mean in plain Python; no text of a caller becomes SQL."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vector_svc_harness import Client

from stepwire.api.vector.v1 import filter_pb2 as pb
from stepwire.errors import StepwireError
from vector_svc.engine.records import Collection, CollectionConfig, FieldType, Metric
from vector_svc.filters.codec import filter_of, path_of
from vector_svc.filters.compile import compile_filter
from vector_svc.store.codecs import set_codecs

FIELDS = {"kind": FieldType.TEXT, "age": FieldType.INT, "size": FieldType.FLOAT,
          "seen": FieldType.TIMESTAMP, "on": FieldType.BOOL}  # fmt: skip
TABLE = """
CREATE TEMPORARY TABLE points (
    id text PRIMARY KEY,
    payload jsonb NOT NULL,
    f_kind text GENERATED ALWAYS AS (vector.text_of(payload -> 'kind')) STORED,
    f_age bigint GENERATED ALWAYS AS (vector.int_of(payload -> 'age')) STORED,
    f_size double precision GENERATED ALWAYS AS (vector.float_of(payload -> 'size')) STORED,
    f_seen timestamptz GENERATED ALWAYS AS (vector.timestamp_of(payload -> 'seen')) STORED,
    f_on boolean GENERATED ALWAYS AS (vector.bool_of(payload -> 'on')) STORED
)
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
COLLECTION = Collection(
    id=1,
    tenant_id="t",
    config=CollectionConfig("things", 3, Metric.COSINE, fields=FIELDS),
    revision=1,
    built=None,
    created_at=START,
    updated_at=START,
)
WORDS = ["boat", "bread", "stone", "tide"]
NOTHING = object()

times = st.integers(0, 4).map(lambda days: (START + timedelta(days=days)).isoformat())
texts = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
numbers = st.integers(-2, 2) | st.sampled_from([0.5, -1.5, 1e20])
scalars = st.booleans() | numbers | texts | times
values = st.none() | scalars | st.lists(st.none() | scalars, max_size=3)
PROMOTED = {"kind": texts, "age": st.integers(-2, 2), "size": numbers, "seen": times,
            "on": st.booleans()}  # fmt: skip
KEYS = ["a", "b", 'q"uo.te\\']
payloads = st.fixed_dictionaries(
    {},
    optional={
        **{
            key: values | st.dictionaries(st.sampled_from(KEYS), values, max_size=2) for key in KEYS
        },
        **{name: st.none() | strategy for name, strategy in PROMOTED.items()},
    },
)
points = st.dictionaries(st.sampled_from("klmnopqrs"), payloads, min_size=3, max_size=9)


def escaped(key: str) -> str:
    return re.sub(r"([\\.])", r"\\\1", key)


paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2).map(
    lambda keys: ".".join(map(escaped, keys))
)


def bounds(names: list[str], of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), of, min_size=1, max_size=2)


ranges = bounds(["gt", "gte", "lt", "lte"], numbers)
time_ranges = bounds(["after", "since", "before", "until"], times)
tests = st.one_of(
    st.tuples(st.just("equals"), scalars),
    st.tuples(st.sampled_from(["any_of", "all_of"]), st.lists(scalars, min_size=1, max_size=3)),
    st.tuples(st.just("range"), ranges),
    st.tuples(st.just("time_range"), time_ranges),
    st.tuples(st.just("words"), st.sampled_from([*WORDS, "Boat TIDE", "stone stone"])),
    st.tuples(st.sampled_from(["is_null", "is_empty"]), st.booleans()),
)
of_columns = st.one_of(
    *(
        st.tuples(st.just(name), st.tuples(st.just("equals"), PROMOTED[name]))
        for name in ("kind", "age", "size", "on")
    ),
    *(
        st.tuples(
            st.just(name),
            st.tuples(st.just("any_of"), st.lists(PROMOTED[name], min_size=1, max_size=3)),
        )
        for name in ("kind", "age", "size")
    ),
    st.tuples(st.sampled_from(["age", "size"]), st.tuples(st.just("range"), ranges)),
    st.tuples(st.just("seen"), st.tuples(st.just("time_range"), time_ranges)),
    st.tuples(
        st.sampled_from(sorted(PROMOTED)),
        st.tuples(st.sampled_from(["is_null", "is_empty"]), st.booleans()),
    ),
)
conditions = st.deferred(
    lambda: st.one_of(
        st.tuples(paths, tests).map(lambda t: {"field": {"path": t[0], t[1][0]: t[1][1]}}),
        of_columns.map(lambda t: {"field": {"path": t[0], t[1][0]: t[1][1]}}),
        st.lists(st.sampled_from("klmxyz"), min_size=1, max_size=3).map(
            lambda ids: {"ids": {"ids": ids}}
        ),
        st.dictionaries(st.sampled_from(KEYS), scalars, max_size=2).map(
            lambda contained: {"contains": contained}
        ),
        filters.map(lambda filter_: {"filter": filter_}),
    )
)


@st.composite
def filter_trees(draw: st.DrawFn) -> dict[str, Any]:
    drawn = {
        part: draw(st.lists(conditions, max_size=2)) for part in ("must", "should", "must_not")
    }
    return {**drawn, "min_should": draw(st.integers(0, len(drawn["should"])))}


filters: st.SearchStrategy[dict[str, Any]] = filter_trees()


def holds(filter_: dict[str, Any], point: tuple[str, dict[str, Any]]) -> bool:
    should = [condition_holds(part, point) for part in filter_["should"]]
    return (
        all(condition_holds(part, point) for part in filter_["must"])
        and (not should or sum(should) >= (filter_["min_should"] or 1))
        and not any(condition_holds(part, point) for part in filter_["must_not"])
    )


def condition_holds(condition: dict[str, Any], point: tuple[str, dict[str, Any]]) -> bool:
    [(kind, asked)] = condition.items()
    if kind == "filter":
        return holds(asked, point)
    if kind == "ids":
        return point[0] in asked["ids"]
    if kind == "contains":
        return all(key in point[1] and same(point[1][key], value) for key, value in asked.items())
    return field_holds(asked, point[1])


def field_holds(asked: dict[str, Any], payload: Any) -> bool:
    value: Any = payload
    for key in path_of(asked["path"], field="path"):
        value = value.get(key, NOTHING) if isinstance(value, dict) else NOTHING
    [(kind, wanted)] = [(key, value) for key, value in asked.items() if key != "path"]
    items = value if isinstance(value, list) else [value]
    if kind == "is_null":
        return (value is None) == wanted
    if kind == "is_empty":
        return (value in (NOTHING, None) or value == []) == wanted
    if kind == "all_of":
        return isinstance(value, list) and all(any(same(i, w) for i in items) for w in wanted)
    return any(item_holds(kind, wanted, item) for item in items)


OPERATORS = {
    "gt": lambda a, b: a > b, "after": lambda a, b: a > b,
    "gte": lambda a, b: a >= b, "since": lambda a, b: a >= b,
    "lt": lambda a, b: a < b, "before": lambda a, b: a < b,
    "lte": lambda a, b: a <= b, "until": lambda a, b: a <= b,
}  # fmt: skip


def item_holds(kind: str, wanted: Any, item: Any) -> bool:
    if kind in ("equals", "any_of"):
        return any(same(item, value) for value in (wanted if kind == "any_of" else [wanted]))
    if kind == "range":
        number = isinstance(item, int | float) and not isinstance(item, bool)
        return number and all(OPERATORS[name](item, bound) for name, bound in wanted.items())
    if not isinstance(item, str):
        return False
    if kind == "words":
        return set(wanted.lower().split()) <= set(item.split())
    if not item.startswith("2026-"):
        return False
    return all(OPERATORS[name](item, bound) for name, bound in wanted.items())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


@pytest.fixture
async def table(service: Client, service_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(service_url)
    await set_codecs(connection)
    await connection.execute(TABLE)
    yield connection
    await connection.close()


async def found(table: asyncpg.Connection, filter_: Any) -> set[str]:
    node = filter_of(ParseDict(filter_, pb.Filter()), field="filter", max_bytes=2**20)
    compiled = compile_filter(node, COLLECTION, first=1)
    rows = await table.fetch(f"SELECT id FROM points WHERE {compiled.sql}", *compiled.arguments)
    return {row["id"] for row in rows}


async def fill(table: asyncpg.Connection, rows: dict[str, Any]) -> None:
    await table.execute("TRUNCATE points")
    texts_of_rows = [json.dumps(payload).encode() for payload in rows.values()]
    await table.execute(
        "INSERT INTO points (id, payload) SELECT * FROM unnest($1::text[], $2::jsonb[])",
        list(rows),
        texts_of_rows,
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=points, wanted=st.lists(filters, min_size=5, max_size=5))
async def test_a_filter_finds_what_plain_python_finds(
    table: asyncpg.Connection, rows: dict[str, Any], wanted: list[dict[str, Any]]
) -> None:
    await fill(table, rows)
    for filter_ in wanted:
        expected = {row[0] for row in rows.items() if holds(filter_, row)}
        assert await found(table, filter_) == expected, filter_


NASTY = "x'; DROP TABLE points; -- $1 {} %s \\ \" ] ) ' é"


async def test_no_text_of_a_caller_becomes_sql(table: asyncpg.Connection) -> None:
    """Wherever a caller may write text, the statement is the same as with harmless text."""
    await fill(table, {NASTY: {NASTY: NASTY}, "other": {"x": "x"}})
    for condition in (
        {"ids": {"ids": ["TEXT"]}},
        {"contains": {"TEXT": "TEXT"}},
        {"field": {"path": "TEXT", "equals": "TEXT"}},
        {"field": {"path": "TEXT", "any_of": ["TEXT"]}},
        {"field": {"path": "TEXT", "words": "TEXT"}},
        {"field": {"path": "TEXT", "is_null": False}},
        {"field": {"path": "TEXT", "is_empty": False}},
    ):
        nasty, harmless = (
            {"must": [json.loads(json.dumps(condition).replace("TEXT", json.dumps(text)[1:-1]))]}
            for text in (escaped(NASTY) if "field" in condition else NASTY, "harmless")
        )
        if "field" in condition:  # only paths are escaped
            nasty["must"][0]["field"].update(
                {k: NASTY if v == escaped(NASTY) else [NASTY] if v == [escaped(NASTY)] else v
                 for k, v in nasty["must"][0]["field"].items() if k != "path"}
            )  # fmt: skip
        sql = {
            compile_filter(
                filter_of(ParseDict(each, pb.Filter()), field="f", max_bytes=9999),
                COLLECTION,
                first=1,
            ).sql
            for each in (nasty, harmless)
        }
        assert len(sql) == 1
        assert NASTY in await found(table, nasty)
    assert await table.fetchval("SELECT count(*) FROM points") == 2


async def test_as_many_values_as_may_be_asked_for_are_found(table: asyncpg.Connection) -> None:
    """Beyond what a struct's numbers tell apart, and of as many parameters as there may be."""
    await fill(table, {"a": {"age": 10**17, "n": 4_095}, "b": {"age": 1, "n": 1.5}})
    assert await found(table, {"must": [{"field": {"path": "age", "equals": 1e17}}]}) == {"a"}

    def asking(count: int) -> dict[str, Any]:
        # 129 values are asked for as 256 are.
        lists = [list(range(n, min(n + 129, count))) for n in range(0, count, 129)]
        return {"should": [{"field": {"path": "n", "any_of": each}} for each in lists]}

    assert await found(table, asking(4_096)) == {"a"}
    with pytest.raises(StepwireError) as caught:
        await found(table, asking(4_097))
    assert caught.value.metadata["field"] == "filter.should[31]"


async def test_lists_of_values_have_few_forms() -> None:
    """Each form of a statement is prepared once per connection."""

    def sql(count: int) -> str:
        filter_ = {"must": [{"field": {"path": "a", "any_of": list(range(count))}}]}
        node = filter_of(ParseDict(filter_, pb.Filter()), field="f", max_bytes=9999)
        return compile_filter(node, COLLECTION, first=1).sql

    assert len({sql(count) for count in range(1, 65)}) == 7


@pytest.mark.parametrize(
    ("filter_", "field"),
    [
        ({"must": [{}]}, "filter.must[0]"),
        ({"must": [{"field": {"path": "a"}}]}, "filter.must[0].field"),
        ({"must_not": [{"field": {"path": "", "is_null": True}}]}, "filter.must_not[0].field.path"),
        ({"must": [{"field": {"path": "a..b", "is_null": True}}]}, "filter.must[0].field.path"),
        ({"must": [{"field": {"path": "a.", "is_null": True}}]}, "filter.must[0].field.path"),
        ({"should": [{"ids": {}}]}, "filter.should[0].ids.ids"),
        ({"min_should": 1}, "filter.min_should"),
        ({"must": [{"field": {"path": "a", "range": {}}}]}, "filter.must[0].field.range"),
        (
            {"must": [{"field": {"path": "a", "range": {"gt": "NaN"}}}]},
            "filter.must[0].field.range",
        ),
        ({"must": [{"field": {"path": "a", "any_of": []}}]}, "filter.must[0].field.any_of"),
        ({"must": [{"field": {"path": "a", "equals": {}}}]}, "filter.must[0].field.equals"),
        ({"must": [{"field": {"path": "a", "equals": "\0"}}]}, "filter.must[0].field.equals"),
        ({"must": [{"field": {"path": "a", "words": ""}}]}, "filter.must[0].field.words"),
        ({"must": [{"field": {"path": "age", "equals": "old"}}]}, "filter"),
        ({"must": [{"field": {"path": "age", "equals": 1.5}}]}, "filter"),
        ({"must": [{"field": {"path": "age", "equals": 1e19}}]}, "filter"),
        ({"must": [{"field": {"path": "kind", "range": {"gt": 1}}}]}, "filter"),
        ({"must": [{"contains": {}} for _ in range(257)]}, "filter.must[256]"),
        (
            {"must": [{"filter": {"must": [{"filter": {"must": [{"filter": {"must": [
                {"filter": {"must": [{"filter": {"must": [{"filter": {"must": [{"filter": {
                    "must": [{"filter": {}}]}}]}}]}}]}}]}}]}}]}}]},
            "filter" + ".must[0].filter" * 8,
        ),
    ],
)  # fmt: skip
def test_bad_filters_are_refused_by_name(filter_: dict[str, Any], field: str) -> None:
    with pytest.raises(StepwireError) as caught:
        compile_filter(
            filter_of(ParseDict(filter_, pb.Filter()), field="filter", max_bytes=2**20),
            COLLECTION,
            first=1,
        )
    assert caught.value.metadata["field"] == field
