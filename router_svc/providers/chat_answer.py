"""Reads chat completions, whole and streamed, and trusts none of it."""

import logging
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Completion, Delta, FinishReason
from router_svc.generate.usage import Usage
from router_svc.providers.refusals import error_told
from router_svc.providers.sources import CitationStream, citable, read_citations
from router_svc.requests.records import Request, ToolCall
from stepwire.ids import uuid7

_logger = logging.getLogger(__name__)

_DATA = b"data:"
_DONE = b"[DONE]"
_FINISHES = {each.value: each for each in FinishReason}
# Longer than any answer within the windows of today's models.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Of one event of a stream, which is a few tokens.
MAX_EVENT_BYTES = 1024 * 1024
MAX_MODEL_CHARACTERS = 200
# Tools called in one answer; more is nonsense.
_MAX_CALLS = 128


class _Part(BaseModel):
    """A part of an answer that is needed, checked strictly; what else comes is ignored."""

    model_config = ConfigDict(extra="ignore")


class _Function(_Part):
    name: str | None = None
    arguments: str | None = None


class _Call(_Part):
    index: int = Field(default=0, ge=0, lt=_MAX_CALLS)
    id: str | None = None
    function: _Function | None = None

    @property
    def name(self) -> str:
        return (self.function and self.function.name) or ""

    @property
    def arguments(self) -> str:
        return (self.function and self.function.arguments) or ""


class _Message(_Part):
    content: str | None = None
    # What a model says that declines to answer; then there is no content.
    refusal: str | None = None
    tool_calls: tuple[_Call, ...] | None = None
    # What a model thinks aloud, by its two names; no part of the answer.
    reasoning_content: Any = None
    reasoning: Any = None

    def thought(self) -> str:
        said = self.reasoning_content or self.reasoning
        return said if isinstance(said, str) else ""


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None


class _StreamChoice(_Part):
    delta: _Message | None = None
    finish_reason: str | None = None


class _InputDetails(_Part):
    cached_tokens: int | None = Field(default=None, ge=0, lt=2**31)


class _OutputDetails(_Part):
    reasoning_tokens: int | None = Field(default=None, ge=0, lt=2**31)


class _Usage(_Part):
    # Bounded by what the API's own fields hold.
    prompt_tokens: int = Field(ge=0, lt=2**31)
    completion_tokens: int = Field(ge=0, lt=2**31)
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None

    def read(self) -> Usage:
        cached = self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens
        thought = self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            cached_input_tokens=min(cached or 0, self.prompt_tokens),
            reasoning_tokens=min(thought or 0, self.completion_tokens),
        )


class _ChatCompletion(_Part):
    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


class _Chunk(_Part):
    choices: tuple[_StreamChoice, ...] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


def read_completion(body: bytes, request: Request, *, key: str | None = None) -> Completion:
    """Returns the answer in the body of a chat completion.

    Args:
        body: The body of an answer whose status tells of no error.
        request: What was asked.
        key: The key that was sent.

    Raises:
        ProviderFailure: NONSENSE when it is none; CONTENT_FILTERED when the filter took
            all of it; what its error means, when it is one.
    """
    try:
        answer = _ChatCompletion.model_validate_json(body)
    except ValidationError as error:
        raise _nonsense(error) from error
    if not answer.choices:
        if answer.error is not None:
            raise error_told(answer.error, "the answer is an error", key=key)
        raise _no_completion()
    choice = answer.choices[0]
    said = choice.message.content or choice.message.refusal or ""
    calls = tuple(
        ToolCall(call.id or _new_id(), call.name, call.arguments or "{}")
        for call in choice.message.tool_calls or ()
    )
    finish = _FINISHES.get(choice.finish_reason or "", FinishReason.UNKNOWN)
    usage = None if answer.usage is None else answer.usage.read()
    check_answer(said, calls, finish, usage)
    text, citations = read_citations(said, citable(request))
    thought = choice.message.thought()
    return Completion(text, citations, usage, calls, finish, _model_name(answer.model), thought)


def check_answer(
    said: str, calls: Sequence[ToolCall], finish: FinishReason, usage: Usage | None
) -> None:
    """Returns when there is an answer.

    Raises:
        ProviderFailure: There is none, or a call of no tool.
    """
    if any(not call.name for call in calls):
        raise ProviderFailure(
            FailureKind.NONSENSE,
            "the answer calls a tool without a name",
            status="malformed",
            usage=usage,
        )
    if said.strip() or calls:
        return
    if finish is FinishReason.CONTENT_FILTER:
        raise ProviderFailure(
            FailureKind.CONTENT_FILTERED,
            "the filter took the whole answer",
            status="filtered",
            usage=usage,
        )
    # Seen of models that spend all their tokens on reasoning: another may do with them.
    spent = usage is not None and usage.output_tokens > 0
    raise ProviderFailure(
        FailureKind.UNFIT if spent else FailureKind.NONSENSE,
        f"the answer is empty (finish_reason {finish.value or 'unknown'})",
        status="empty",
        usage=usage,
    )


class StreamReader:
    """Puts a streamed chat completion together.

    Args:
        request: What was asked.
    """

    def __init__(self, request: Request) -> None:
        self._citations = CitationStream(citable(request))
        self._buffer = b""
        self._text: list[str] = []
        self._said = False
        self._calls: list[ToolCall] = []
        # Of the last call with each index.
        self._places: dict[int, int] = {}
        self._usage: Usage | None = None
        self._finish: FinishReason | None = None
        self._model = ""
        self._events = 0
        self._bytes = 0
        self.ended = False
        """Whether the stream has said that nothing follows."""
        self.error: Any = None
        """An error that the stream told of; nothing follows it."""

    @property
    def done(self) -> bool:
        """Whether the stream has said that it is at its end."""
        return self.ended or self._finish is not None

    def feed(self, piece: bytes) -> Iterator[Delta]:
        """Takes bytes as they come, and yields the pieces of the answer in them.

        Raises:
            ProviderFailure: NONSENSE: they are no part of a chat completion.
        """
        self._bytes += len(piece)
        # At CR LF, LF or CR; one that is cut in two leaves an empty line.
        lines = (self._buffer + piece).splitlines(keepends=True)
        whole = not lines or lines[-1].endswith((b"\n", b"\r"))
        self._buffer = b"" if whole else lines.pop()
        if self._bytes > MAX_ANSWER_BYTES or len(self._buffer) > MAX_EVENT_BYTES:
            raise ProviderFailure(
                FailureKind.NONSENSE, "the stream is longer than any answer", status="malformed"
            )
        for line in lines:
            data = line.strip().removeprefix(BOM_UTF8)
            # Comments, empty lines and other fields of events say nothing.
            if not data.startswith(_DATA):
                continue
            if (data := data[len(_DATA) :].strip()) == _DONE:
                self.ended = True
            else:
                yield from self._event(data)

    def end(self) -> Iterator[Delta]:
        """Yields what is left, and the end.

        Raises:
            ProviderFailure: There is no answer, or it broke off.
        """
        if self.ended and self._finish is None:
            # Some endpoints say that they are done, and not why.
            self._finish = FinishReason.UNKNOWN
        if self._finish is None:
            raise self._cut_off()
        if rest := self._citations.flush():
            self._text.append(rest)
            yield Delta(text=rest)
        calls = tuple(
            ToolCall(call.id or _new_id(), call.name, call.arguments_json or "{}")
            for call in self._calls
        )
        text = "".join(self._text)
        check_answer(text, calls, self._finish, self._usage)
        for call in calls:
            yield Delta(tool_call=call)
        yield Delta(
            end=Completion(
                text, self._citations.cited, self._usage, calls, self._finish, self._model
            )
        )

    def _cut_off(self) -> ProviderFailure:
        if not self._events:
            return ProviderFailure(
                FailureKind.NONSENSE, "the answer is not a stream of events", status="malformed"
            )
        return ProviderFailure(
            FailureKind.NETWORK, "the stream ended before the answer did", status="cut"
        )

    def _event(self, data: bytes) -> Iterator[Delta]:
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError as error:
            raise _nonsense(error) from error
        self._events += 1
        if chunk.error is not None:
            self.error = chunk.error
            return
        self._model = _model_name(chunk.model) or self._model
        if chunk.usage is not None:
            self._usage = chunk.usage.read()
        for choice in (chunk.choices or ())[:1]:
            delta = choice.delta or _Message()
            if thought := delta.thought():
                yield Delta(unsaid=thought)
            for call in delta.tool_calls or ():
                self._add(call)
                if call.arguments:
                    yield Delta(unsaid=call.arguments)
            if choice.finish_reason:
                self._finish = _FINISHES.get(choice.finish_reason, FinishReason.UNKNOWN)
            said = delta.content or delta.refusal
            if said:
                # Empty while it may be a citation: whoever waits learns that it goes on.
                text = self._citations.feed(said)
                self._text.append(text)
                yield Delta(text=text)

    def _add(self, call: _Call) -> None:
        place = self._places.get(call.index)
        if place is None or _is_another(call, self._calls[place]):
            place = self._places[call.index] = len(self._calls)
            self._calls.append(ToolCall("", "", ""))
        known = self._calls[place]
        self._calls[place] = ToolCall(
            known.id or call.id or "",
            known.name or call.name,
            known.arguments_json + call.arguments,
        )


def _is_another(call: _Call, known: ToolCall) -> bool:
    """Returns whether a piece begins a call of its own: some endpoints give all one index."""
    named = known.name and call.name
    return bool(named and known.id and call.id and call.id != known.id)


def _new_id() -> str:
    """Returns the id of a call that came without one, by which its answer can name it."""
    return f"call_{uuid7().hex}"


def _model_name(told: str | None) -> str:
    """Returns what a provider calls the model, as far as a record can hold it."""
    return (told or "").replace("\0", "")[:MAX_MODEL_CHARACTERS]


def _nonsense(error: ValidationError) -> ProviderFailure:
    _logger.warning(
        "an endpoint's answer is not a chat completion",
        extra={"faults": error.errors(include_input=False, include_url=False)},
    )
    return _no_completion()


def _no_completion() -> ProviderFailure:
    return ProviderFailure(
        FailureKind.NONSENSE, "the answer is not a chat completion", status="malformed"
    )
