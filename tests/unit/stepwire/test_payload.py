"""Payloads: the one conversion between the wire and the bytes inside."""

import json
import math

import orjson
import pytest
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from stepwire.api.common.v1.payload_pb2 import Payload
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.errors import Reason, StepwireError
from stepwire.payload import (
    JSON,
    MAX_EXACT_INTEGER,
    MAX_NESTING,
    decode,
    encode,
    json_to_value,
    nesting,
    value_to_json,
)
from stepwire.sdk.values import from_payload

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
LIMIT = 10_000


def deep(levels, make):
    value = 1
    for _ in range(levels):
        value = make(value)
    return value


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    message = Value()
    json_to_value(value, message)
    assert value_to_json(Value.FromString(message.SerializeToString())) == value


@given(VALUES)
def test_both_forms_give_the_same_value(value):
    natural, raw = Payload(), Payload(data=json.dumps(value).encode())
    json_to_value(value, natural.json)
    for payload in (natural, raw):
        data, content_type = encode(payload, field="input", limit_bytes=2**20)
        assert content_type == JSON
        assert orjson.loads(data) == value


@given(VALUES)
def test_bytes_inside_are_answered_in_the_natural_form(value):
    payload = Payload()
    decode(orjson.dumps(value), JSON, payload)
    assert value_to_json(payload.json) == value


def test_whole_numbers_are_integers():
    assert isinstance(value_to_json(Value(number_value=3.0)), int)
    assert isinstance(value_to_json(Value(number_value=float(MAX_EXACT_INTEGER))), int)
    assert isinstance(value_to_json(Value(number_value=2.0**60)), float)
    assert isinstance(value_to_json(Value(number_value=0.5)), float)


def test_nothing_is_null():
    assert encode(Payload(), field="input", limit_bytes=LIMIT) == (b"null", JSON)
    assert value_to_json(Value()) is None


def test_other_types_are_left_alone():
    payload = Payload(data=b"\xff\x00", content_type="image/x")
    assert encode(payload, field="input", limit_bytes=LIMIT) == (b"\xff\x00", "image/x")
    back = Payload()
    decode(b"\xff\x00", "image/x", back)
    assert back == payload


def refused(payload):
    with pytest.raises(StepwireError) as caught:
        encode(payload, field="input", limit_bytes=LIMIT)
    return caught.value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number(number):
    error = refused(Payload(json=Value(number_value=number)))
    assert error.reason == Reason.FIELD_INVALID
    assert error.metadata["field"] == "input.json"


@pytest.mark.parametrize(
    "data", [b"{", b"NaN", b"'a'", b"\xff", b'"\\ud800"', b"[1,]", b"[" * 5000, b"1 2"]
)
def test_what_is_no_json(data):
    error = refused(Payload(data=data))
    assert error.reason == Reason.FIELD_INVALID
    assert error.metadata["field"] == "input.data"


def test_the_natural_form_has_one_type():
    error = refused(Payload(json=Value(bool_value=True), content_type="text/plain"))
    assert error.metadata["field"] == "input.content_type"


def test_too_many_bytes():
    error = refused(Payload(data=b'"' + b"x" * LIMIT + b'"'))
    assert error.reason == Reason.PAYLOAD_TOO_LARGE
    assert error.metadata == {"field": "input", "size_bytes": "10002", "limit_bytes": "10000"}


MAKERS = [lambda value: [value], lambda value: {"in": value}, lambda value: [{"in": value}]]


@pytest.mark.parametrize("make", MAKERS, ids=["lists", "objects", "both"])
def test_what_is_nested_as_deep_as_allowed_can_be_read_by_clients(make):
    levels = MAX_NESTING // nesting(make(1))
    value = deep(levels, make)
    response = pb.GetTaskResponse()
    decode(orjson.dumps(value), JSON, response.task.steps.add().output)
    read = pb.GetTaskResponse.FromString(response.SerializeToString())
    assert value_to_json(read.task.steps[0].output.json) == value
    for payload in (Payload(data=orjson.dumps(value)), read.task.steps[0].output):
        assert orjson.loads(encode(payload, field="input", limit_bytes=LIMIT)[0]) == value


@pytest.mark.parametrize("make", MAKERS[:2], ids=["lists", "objects"])
def test_what_is_nested_deeper_is_answered_as_it_is(make):
    value = deep(MAX_NESTING + 1, make)
    response = pb.GetTaskResponse()
    decode(orjson.dumps(value), JSON, response.task.output)
    read = pb.GetTaskResponse.FromString(response.SerializeToString())
    assert from_payload(read.task.output) == value
    # Many lists beside each other are not deep.
    decode(orjson.dumps([[]] * MAX_NESTING), JSON, response.task.output)
    assert value_to_json(response.task.output.json) == [[]] * MAX_NESTING


@pytest.mark.parametrize("make", MAKERS[:2], ids=["lists", "objects"])
def test_what_is_nested_deeper_is_refused(make):
    value = deep(MAX_NESTING + 1, make)
    natural = Payload()
    json_to_value(value, natural.json)
    for payload in (natural, Payload(data=orjson.dumps(value))):
        error = refused(payload)
        assert error.reason == Reason.FIELD_INVALID
        assert "deeper than 32" in error.message


@given(VALUES)
def test_nesting_counts_levels(value):
    text, depth, deepest = json.dumps(value), 0, 0
    inside = False
    for place, character in enumerate(text):
        if character == '"' and not _escaped(text, place):
            inside = not inside
        elif not inside:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    assert nesting(value) == deepest


def _escaped(text, place):
    before = text[:place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def test_what_is_no_json_value():
    with pytest.raises(TypeError):
        json_to_value(b"bytes", Value())
