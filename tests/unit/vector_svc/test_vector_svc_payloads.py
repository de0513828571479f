"""Payloads and filters, from structs to JSON."""

from typing import Any

import orjson
import pytest
from google.protobuf.struct_pb2 import Struct

from stepwire.errors import Reason, StepwireError
from vector_svc.engine.payloads import read_filter, read_payload


def struct(**fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made


def read(value: Struct, limit_bytes: int = 1_000) -> bytes:
    return read_payload(value, field="points[0].payload", limit_bytes=limit_bytes)


def test_every_kind_of_value_is_kept() -> None:
    fields = {
        "text": "ä\n",
        "whole": 3,
        "part": 0.5,
        "yes": True,
        "none": None,
        "list": [1, "a", [False]],
        "object": {"deep": {}},
    }
    assert orjson.loads(read(struct(**fields))) == fields


def test_no_payload_is_an_empty_object() -> None:
    assert read(Struct()) == b"{}"


def test_the_limit_counts_bytes_of_json() -> None:
    size = len(b'{"a":"\xc3\xa4"}')
    assert len(read(struct(a="ä"), size)) == size
    with pytest.raises(StepwireError) as caught:
        read(struct(a="ä"), size - 1)
    assert caught.value.reason is Reason.PAYLOAD_TOO_LARGE
    assert caught.value.metadata == {
        "field": "points[0].payload",
        "size_bytes": str(size),
        "limit_bytes": str(size - 1),
    }


@pytest.mark.parametrize(
    "bad",
    [
        struct(a=float("nan")),
        struct(a=[float("inf")]),
        struct(a="\0"),
        struct(**{"a\0": 1}),
        struct(a={"b": ["c", "d\0"]}),
    ],
)
def test_what_postgres_cannot_store_is_refused(bad: Struct) -> None:
    with pytest.raises(StepwireError) as caught:
        read(bad)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.faults[0].field == "points[0].payload"


def test_a_backslash_before_u0000_is_just_text() -> None:
    assert orjson.loads(read(struct(a="\\u0000"))) == {"a": "\\u0000"}


def test_an_empty_filter_is_none() -> None:
    assert read_filter(Struct(), field="filter", limit_bytes=100) is None
    assert read_filter(struct(a=1), field="filter", limit_bytes=100) == b'{"a":1}'
