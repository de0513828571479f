import math
from collections.abc import Callable

import pytest

from router_svc.requests import records
from router_svc.requests.decode import decode_held, decode_request
from router_svc.requests.records import Request, Role
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_USER,
    Document,
    Message,
)
from stepwire.api.router.v1.requirements_pb2 import Requirements
from stepwire.errors import Reason, StepwireError

Change = Callable[[pb.GenerateRequest], object]


def a_request() -> pb.GenerateRequest:
    return pb.GenerateRequest(
        messages=[
            Message(role=ROLE_SYSTEM, content="Be brief."),
            Message(role=ROLE_USER, content="Hello"),
            Message(role=ROLE_ASSISTANT, content="Hi"),
            Message(content="How high was it?"),
        ],
        documents=[
            Document(id="a", title="T", text="One."),
            Document(id="b", text="Two."),
        ],
        requirements=Requirements(model="m", min_quality=0.5, capabilities=["json"]),
        max_output_tokens=100,
        temperature=0.0,
    )


def test_a_full_request_is_decoded() -> None:
    assert decode_request(a_request()) == Request(
        messages=(
            records.Message(Role.SYSTEM, "Be brief."),
            records.Message(Role.USER, "Hello"),
            records.Message(Role.ASSISTANT, "Hi"),
            records.Message(Role.USER, "How high was it?"),
        ),
        documents=(records.Document("a", "T", "One."), records.Document("b", "", "Two.")),
        model="m",
        min_quality=0.5,
        capabilities=("json",),
        max_output_tokens=100,
        temperature=0.0,
    )


def test_schemas_are_written_alike_each_time_with_whole_numbers_as_such() -> None:
    names = ["reasoning", "answer", "zeta", "alpha", "kappa", "omega", "beta"]
    schema = {"properties": {name: {"minLength": 2, "maximum": 0.5} for name in names}}
    request = a_request()
    request.json_schema.schema.update(schema)
    request.tools.add(name="t").parameters.update(schema)
    decoded = decode_request(request)
    assert decoded.json_schema is not None
    for seen in (decoded.json_schema.schema, decoded.tools[0].parameters or {}):
        assert seen == schema
        assert list(seen["properties"]) == sorted(names)
        assert isinstance(seen["properties"]["zeta"]["minLength"], int)


def test_what_is_unset_stays_unset() -> None:
    request = decode_request(pb.GenerateRequest(messages=[Message(content="Hello")]))
    assert request == Request(messages=(records.Message(Role.USER, "Hello"),))
    assert request.temperature is None


def add_messages(count: int) -> Change:
    return lambda request: request.messages.extend([Message(content="x")] * count)


def add_documents(count: int) -> Change:
    return lambda request: request.documents.extend(
        Document(id=str(number), text="x") for number in range(count)
    )


FAULTS: list[tuple[Change, str]] = [
    (lambda request: request.ClearField("messages"), "messages"),
    (add_messages(253), "messages"),
    (
        lambda request: request.messages.add(role=ROLE_ASSISTANT, content="x"),
        "messages[4].role",
    ),
    (lambda request: request.messages.add(content=" \n"), "messages[4].content"),
    (lambda request: setattr(request.messages[1], "role", 9), "messages[1].role"),
    (
        lambda request: setattr(request.messages[2], "content", "x" * 1_000_001),
        "messages[2].content",
    ),
    (add_documents(255), "documents"),
    (lambda request: request.documents.add(text="x"), "documents[2].id"),
    (lambda request: request.documents.add(id="a", text="x"), "documents[2].id"),
    (lambda request: request.documents.add(id="c", text=" "), "documents[2].text"),
    (lambda request: setattr(request.requirements, "min_quality", 1.1), "requirements.min_quality"),
    (
        lambda request: setattr(request.requirements, "min_quality", math.nan),
        "requirements.min_quality",
    ),
    (
        lambda request: request.requirements.capabilities.append(""),
        "requirements.capabilities[1]",
    ),
    (lambda request: setattr(request, "max_output_tokens", -1), "max_output_tokens"),
    (lambda request: setattr(request, "temperature", 2.5), "temperature"),
    (lambda request: setattr(request, "temperature", math.nan), "temperature"),
    (lambda request: setattr(request.cache, "mode", 9), "cache.mode"),
    (lambda request: setattr(request.cache.max_age, "nanos", -1), "cache.max_age"),
    (lambda request: request.cache.tags.extend(["x"] * 17), "cache.tags"),
    (lambda request: request.cache.tags.append("x" * 101), "cache.tags"),
    (lambda request: request.cache.tags.append("a\0b"), "cache.tags"),
    (
        lambda request: request.json_schema.schema.update({"const": math.nan}),
        "json_schema.schema",
    ),
    (
        lambda request: request.tools.add(name="t").parameters.update({"const": math.inf}),
        "tools[0].parameters",
    ),
    (lambda request: setattr(request.cache.max_age, "seconds", 2**62), "cache.max_age"),
    (lambda request: setattr(request.cache, "scope", "x" * 201), "cache.scope"),
]


@pytest.mark.parametrize(("change", "field"), FAULTS)
def test_a_faulty_field_is_named(change: Change, field: str) -> None:
    request = a_request()
    change(request)
    with pytest.raises(StepwireError) as caught:
        decode_request(request)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in caught.value.faults] == [field]
    with pytest.raises(StepwireError) as caught:
        decode_held(pb.DecideRequest(request=request))
    assert [fault.field for fault in caught.value.faults] == [f"request.{field}"]


def test_all_faulty_fields_are_named() -> None:
    request = pb.GenerateRequest(
        messages=[Message(role=ROLE_ASSISTANT)],
        documents=[Document()],
    )
    with pytest.raises(StepwireError) as caught:
        decode_request(request)
    assert [fault.field for fault in caught.value.faults] == [
        "messages[0].role",
        "messages[0].content",
        "documents[0].id",
        "documents[0].text",
    ]


def test_the_limits_themselves_are_allowed() -> None:
    request = pb.GenerateRequest(
        messages=[Message(content="x" * 1_000_000)] * 2 + [Message(content="x")] * 254,
        requirements=Requirements(min_quality=1),
        temperature=2.0,
    )
    add_documents(256)(request)
    assert len(decode_request(request).documents) == 256


def test_a_decision_needs_a_request() -> None:
    with pytest.raises(StepwireError) as caught:
        decode_held(pb.DecideRequest())
    assert [fault.field for fault in caught.value.faults] == ["request"]
