"""Answers are held against schemas, which are the callers' and may be anything."""

from typing import Any

import pytest

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Completion, FailedTry, FinishReason
from router_svc.generate.schemas import MAX_QUOTED_CHARACTERS, corrected, hold_against_schema
from router_svc.providers.chat_answer import read_completion
from router_svc.providers.chat_request import chat_body
from router_svc.requests.records import JsonSchema, Request, Role, ToolCall
from router_svc.requests.schema import MAX_PARTS, answer_fault, schema_fault
from tests.unit.router_svc.router_builders import a_catalogue, a_document, a_model, a_request
from tests.unit.router_svc.router_builders import decide_on as decide

RISE = {
    "type": "object",
    "properties": {"metres": {"type": "number", "minimum": 2}},
    "required": ["metres"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}},
            "required": ["left"],
        }
    },
}


def doubling(levels: int) -> dict[str, Any]:
    """Each part has the next twice, so that it unfolds to 2 ** levels parts."""
    parts: dict[str, Any] = {
        str(level): {"allOf": [{"$ref": f"#/$defs/{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/$defs/0", "$defs": parts | {str(levels): {"type": "string"}}}


def chain(levels: int) -> dict[str, Any]:
    parts: dict[str, Any] = {
        str(level): {"$ref": f"#/$defs/{level + 1}"} for level in range(levels)
    }
    return {"$ref": "#/$defs/0", "$defs": parts | {str(levels): {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "objekt"}, 'is not a JSON Schema: "objekt" is not'),
        ({"properties": 5}, "is not a JSON Schema: 5 is not of type"),
        ({"pattern": "("}, "is not a JSON Schema"),
        ({"pattern": "(?=x)"}, "is not a JSON Schema"),
        ({"pattern": "a{1000}{1000}"}, "is not a JSON Schema"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "must refer to its own parts only"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "must refer to its own parts only"),
        ({"$ref": "#/$defs/none"}, "refers to a part that it does not have"),
        ({"$ref": "#/allOf/7", "allOf": [{}]}, "refers to a part that it does not have"),
        ({"items": {"$dynamicRef": "#x"}}, "must not use $dynamicRef"),
        ({"items": {"$id": "http://x/y"}}, "must not use $id"),
        ({"$schema": "http://127.0.0.1:1/own"}, "is not a JSON Schema"),
        (doubling(30), f"unfolds to more than {MAX_PARTS} parts"),
        (chain(200), "nests deeper than 100 levels"),
        ({"description": "x" * 300_000}, "must be at most 262144 bytes"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], told: str) -> None:
    assert told in schema_fault(schema)


@pytest.mark.parametrize("schema", [RISE, TREE, doubling(8), chain(20), {"$ref": "#"}])
def test_a_schema_that_can_be_used_is_taken(schema: dict[str, Any]) -> None:
    assert schema_fault(schema) == ""


@pytest.mark.parametrize(
    ("schema", "text", "told"),
    [
        (RISE, '{"metres": 3}', ""),
        (RISE, "three metres", "it is not JSON"),
        (RISE, '```json\n{"metres": 3}\n```', "it is not JSON"),
        (RISE, '{"metres": NaN}', "it is not JSON"),
        (RISE, '{"metres": 1}', "at ['metres']: the value is less than the minimum of 2"),
        (RISE, '{"metres": 3, "feet": 9}', "it has properties that may not be there"),
        (RISE, "{}", '"metres" is a required property'),
        (TREE, '{"left": {"left": 1}}', "it is JSON, but not of the schema"),
        ({"type": "string", "pattern": "^(a+)+$"}, f'"{"a" * 5000}b"', "does not match"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(schema: dict[str, Any], text: str, told: str) -> None:
    fault = answer_fault(schema, text)
    assert (told in fault) if told else not fault
    assert "\n" not in fault


def test_a_schema_that_refers_to_itself_in_many_ways_does_not_hold_up_the_process() -> None:
    # Told why, the library would go through 8 ** 60 ways.
    schema = {"anyOf": [{"items": {"$ref": "#"}}] * 8, "type": "array"}
    assert schema_fault(schema) == ""
    assert answer_fault(schema, "[" * 60 + "1" + "]" * 60) == "it is JSON, but not of the schema"


def wanting(schema: dict[str, Any], **fields: Any) -> Request:
    return a_request(json_schema=JsonSchema(schema), **fields)


@pytest.mark.parametrize(
    "completion",
    [
        Completion('{"metres": 2}', finish=FinishReason.STOP),
        Completion('{"met', finish=FinishReason.LENGTH),
        Completion("It ro", finish=FinishReason.CONTENT_FILTER),
        Completion("", tool_calls=(ToolCall("1", "gauge", "{}"),), finish=FinishReason.STOP),
    ],
)
def test_whole_answers_that_keep_the_schema_pass_and_unfinished_ones_are_not_held_to_it(
    completion: Completion,
) -> None:
    hold_against_schema(wanting(RISE), completion)


@pytest.mark.parametrize("finish", [FinishReason.STOP, FinishReason.UNKNOWN])
def test_an_answer_off_the_schema_has_failed(finish: FinishReason) -> None:
    with pytest.raises(ProviderFailure) as caught:
        hold_against_schema(wanting(RISE), Completion("two", finish=finish))
    assert (caught.value.kind, caught.value.said) == (FailureKind.OFF_SCHEMA, "two")


def test_the_model_that_failed_is_told_what_was_wrong_and_that_is_paid_for() -> None:
    request = wanting(RISE)
    model, other = (a_model(name, capabilities=["json"]) for name in ("a", "b"))
    first, second = decide(request, a_catalogue(model, other)).tries
    failure = ProviderFailure(
        FailureKind.OFF_SCHEMA, "its answer does not keep the schema: no", said="é" * 9_000
    )
    longer, dearer = corrected(request, first, FailedTry(first, "", failure), lambda _, text: 7)
    said, told = longer.messages[-2:]
    assert longer.messages[:-2] == request.messages
    assert (said.role, said.content) == (Role.ASSISTANT, "é" * MAX_QUOTED_CHARACTERS)
    assert (told.role, told.content.partition(". ")[0]) == (
        Role.USER,
        "That does not keep the schema: no",
    )
    assert dearer.input_tokens > first.input_tokens + 7
    # Each byte a token, at a millionth of a dollar each.
    assert dearer.worst_cost_micro_usd >= first.worst_cost_micro_usd + 2 * MAX_QUOTED_CHARACTERS
    # Another model, or another failure: nothing is told.
    failed = FailedTry(second, "", failure)
    assert corrected(request, first, failed, lambda _, text: 7) == (request, first)
    failed = FailedTry(first, "", ProviderFailure(FailureKind.SERVER, "no"))
    assert corrected(request, first, failed, lambda _, text: 7) == (request, first)


def test_no_correction_goes_beyond_the_window() -> None:
    request = wanting(RISE)
    (only,) = decide(request, a_catalogue(a_model("a", capabilities=["json"]))).tries
    failure = ProviderFailure(FailureKind.OFF_SCHEMA, "no", said="x")
    room = only.model.context_window
    for counted, fits in ((room, False), (10, True)):
        longer, seen = corrected(
            request, only, FailedTry(only, "", failure), lambda _, text, n=counted: n
        )
        assert (len(longer.messages) > 1) is fits
        assert seen.input_tokens + seen.model.max_output_tokens <= room


def test_lists_in_json_are_no_citations() -> None:
    body = b'{"choices": [{"message": {"content": "{\\"at\\": [1, 2]}"}, "finish_reason": "stop"}]}'
    documents = (a_document("may"), a_document("june"))
    assert read_completion(body, wanting(RISE, documents=documents)).text == '{"at": [1, 2]}'
    assert read_completion(body, a_request(documents=documents)).text == '{"at": [may][june]}'


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": "object"}, "json_object"),
        (RISE, True),
        (RISE | {"required": []}, False),
        ({"type": "array", "items": {"type": "object", "properties": {}}}, False),
        # Not schemas, though they look like some.
        ({"const": {"type": "object", "additionalProperties": False, "required": 5}}, False),
        ({"properties": {"properties": True, "additionalProperties": False}}, False),
    ],
)
def test_a_grammar_is_asked_for_where_the_schema_allows_one(
    schema: dict[str, Any], sent: object
) -> None:
    provider: Any = a_model("a").provider
    body = chat_body(wanting(schema), provider, max_output_tokens=9, stream=False)
    form = body["response_format"]
    assert (form["type"] if sent == "json_object" else form["json_schema"]["strict"]) == sent
