"""Streams of chat completions, as endpoints really send them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Completion, FinishReason
from router_svc.providers.chat_answer import (
    MAX_ANSWER_BYTES,
    MAX_EVENT_BYTES,
    StreamReader,
    read_completion,
)
from router_svc.requests.records import Document, Message, Request, Role

REQUEST = Request(messages=(Message(Role.USER, "How high was it?"),))
DONE = b"data: [DONE]\n\n"


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def says(text: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    return event(choices=[{"delta": {"content": text, **delta}, "finish_reason": finish}])


def read(*pieces: bytes) -> tuple[list[str], Completion]:
    reader = StreamReader(REQUEST)
    deltas = [delta for piece in pieces for delta in reader.feed(piece)]
    deltas += reader.end()
    end = deltas[-1].end
    assert end is not None
    return [delta.text for delta in deltas if delta.text], end


def failure_of(*pieces: bytes) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        read(*pieces)
    return caught.value


def test_pieces_may_be_cut_anywhere() -> None:
    whole = (
        b": ping\r\n\r\n"
        + says("It rö")
        + says("se.").replace(b"\n", b"\r\n")
        + says(finish="stop")
    )
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    usage |= {"prompt_tokens_details": {"cached_tokens": 5}}
    whole += event(choices=[], usage=usage, model="m-1") + DONE
    for size in (1, 7, len(whole)):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        texts, end = read(*pieces)
        assert texts == ["It rö", "se."]
        assert (end.text, end.finish, end.model) == ("It röse.", FinishReason.STOP, "m-1")
        assert end.usage is not None
        assert (end.usage.input_tokens, end.usage.cached_input_tokens) == (9, 5)


def test_calls_of_tools_are_put_together_by_their_index() -> None:
    def call(index: int, **fields: Any) -> bytes:
        return says(tool_calls=[{"index": index, **fields}])

    _, end = read(
        call(0, id="a", function={"name": "gauge", "arguments": ""}),
        call(1, id="b", function={"name": "clock", "arguments": "{"}),
        call(0, function={"arguments": '{"metres": 1}'}),
        call(1, function={"arguments": "}"}),
        says(finish="tool_calls"),
    )
    assert [(each.id, each.name, each.arguments_json) for each in end.tool_calls] == [
        ("a", "gauge", '{"metres": 1}'),
        ("b", "clock", "{}"),
    ]


def test_calls_that_share_an_index_are_told_apart_by_id_and_name() -> None:
    def call(**fields: Any) -> bytes:
        return says(tool_calls=[fields])

    _, end = read(
        call(id="a", function={"name": "gauge", "arguments": '{"metres": 1}'}),
        call(id="b", function={"name": "clock", "arguments": "{"}),
        # Some give every piece an id of its own.
        call(id="c", function={"arguments": "}"}),
        says(finish="tool_calls"),
    )
    assert [(each.id, each.name, each.arguments_json) for each in end.tool_calls] == [
        ("a", "gauge", '{"metres": 1}'),
        ("b", "clock", "{}"),
    ]


def test_calls_without_ids_and_arguments_get_some() -> None:
    calls = [{"index": place, "function": {"name": "gauge"}} for place in range(2)]
    _, end = read(says(tool_calls=calls, finish="tool_calls"))
    message = {"choices": [{"message": {"tool_calls": calls}}]}
    whole = read_completion(json.dumps(message).encode(), REQUEST)
    made = [*end.tool_calls, *whole.tool_calls]
    assert [(each.name, each.arguments_json) for each in made] == [("gauge", "{}")] * 4
    assert len({each.id for each in made} - {""}) == 4


def test_what_is_thought_and_called_is_told_before_it_is_said() -> None:
    reader = StreamReader(REQUEST)
    deltas = [
        delta
        for piece in (
            says(reasoning_content="Let me see."),
            says(reasoning="Hm."),
            says(reasoning={"of": "another form"}),
            says(tool_calls=[{"index": 0, "function": {"name": "gauge", "arguments": "{"}}]),
        )
        for delta in reader.feed(piece)
    ]
    assert [delta.unsaid for delta in deltas] == ["Let me see.", "Hm.", "{"]
    assert not any(delta.text or delta.tool_call for delta in deltas)


def test_pieces_that_are_held_back_are_told_as_signs_of_life() -> None:
    report = Document("report", "", "The river rose.")
    reader = StreamReader(replace(REQUEST, documents=(report,)))
    pieces = [says("See `code"), says("and more"), says("` [1].", "stop"), DONE]
    deltas = [list(reader.feed(piece)) for piece in pieces]
    assert [len(each) for each in deltas] == [1, 1, 1, 0]
    last = list(reader.end())
    said = [delta.text for each in (*deltas, last) for delta in each]
    assert "".join(said) == "See `codeand more` [report]."


def test_what_is_null_is_as_absent() -> None:
    texts, end = read(
        event(choices=None),
        says("Here."),
        event(choices=[{"delta": None, "finish_reason": None}]),
        says(tool_calls=[{"index": 0, "id": "a", "function": {"name": "gauge"}}]),
        says(tool_calls=[{"index": 0, "function": None}]),
        event(choices=[{"delta": None, "finish_reason": "tool_calls"}], usage=None, error=None),
    )
    assert (texts, [call.name for call in end.tool_calls]) == (["Here."], ["gauge"])


@pytest.mark.parametrize("ends", [b"\r", b"\r\n"])
def test_lines_end_as_server_sent_events_may_end_them(ends: bytes) -> None:
    whole = says("It ") + says("rose.", "stop") + DONE
    whole = b"\xef\xbb\xbf" + whole.replace(b"\n", ends)
    for cut in range(len(whole)):
        texts, end = read(whole[:cut], whole[cut:])
        assert (texts, end.finish) == (["It ", "rose."], FinishReason.STOP)


def test_what_an_empty_answer_has_used_is_told() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 400}
    failure = failure_of(says(finish="length"), event(choices=[], usage=usage), DONE)
    assert failure.kind is FailureKind.UNFIT
    assert failure.usage is not None
    assert (failure.usage.input_tokens, failure.usage.output_tokens) == (9, 400)


@pytest.mark.parametrize(
    ("piece", "most"), [(b"x" * 65_536, MAX_EVENT_BYTES), (b":" * 65_535 + b"\n", MAX_ANSWER_BYTES)]
)
def test_no_stream_is_read_without_end(piece: bytes, most: int) -> None:
    pieces = [piece] * (most // len(piece))
    assert failure_of(*pieces).message == "the answer is not a stream of events"
    assert failure_of(*pieces, piece).message == "the stream is longer than any answer"


def test_an_end_without_a_reason_is_an_end() -> None:
    assert read(says("Here."), DONE)[1].finish is FinishReason.UNKNOWN


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([says("It ro")], FailureKind.NETWORK),
        ([b"<html>oops</html>"], FailureKind.NONSENSE),
        ([b""], FailureKind.NONSENSE),
        ([says("It ro"), b"data: {]\n\n"], FailureKind.NONSENSE),
        ([event(choices=[{"delta": {"content": 7}}])], FailureKind.NONSENSE),
        (
            [event(choices=[], usage={"prompt_tokens": -1, "completion_tokens": 1})],
            FailureKind.NONSENSE,
        ),
        ([says(finish="content_filter"), DONE], FailureKind.CONTENT_FILTERED),
        ([says(finish="stop"), DONE], FailureKind.NONSENSE),
        ([DONE], FailureKind.NONSENSE),
    ],
)
def test_what_is_no_answer(pieces: list[bytes], kind: FailureKind) -> None:
    assert failure_of(*pieces).kind is kind
