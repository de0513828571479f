"""The JSON of the API: completions, chunks of streams, errors, embeddings, models."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import orjson

from stepwire.testing.fleet.answers import Said

DONE = b"data: [DONE]\n\n"
GARBAGE = b"<html><body>Bad gateway</body></html>"
GARBAGE_EVENT = b'data: {"choices": [{"delta": {"content": 7}, "index"\n\n'
_CREATED = 1_700_000_000


def completion(
    *, identity: str, model: str, said: Said, finish: str, usage: dict[str, Any] | None
) -> bytes:
    """Returns a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.calls:
        message["tool_calls"] = [_call(each) for each in said.calls]
    return orjson.dumps(
        {
            "id": identity,
            "object": "chat.completion",
            "created": _CREATED,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            **({} if usage is None else {"usage": usage}),
        }
    )


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Returns what an answer says that it used."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class Chunks:
    """The events of one streamed completion."""

    def __init__(self, *, identity: str, model: str) -> None:
        self._base = {
            "id": identity,
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": model,
        }

    def of(self, said: Said) -> Iterator[bytes]:
        """Yields one event for each token or call, the first with the author's role."""
        deltas: list[dict[str, Any]] = [{"content": token} for token in said.tokens]
        for index, call in enumerate(said.calls):
            whole = {"index": index, **_call(call)}
            # As real endpoints do: the name first, the arguments in pieces.
            half = len(call.arguments) // 2
            deltas.append({"tool_calls": [_with_arguments(whole, call.arguments[:half])]})
            rest = {"index": index, "function": {"arguments": call.arguments[half:]}}
            deltas.append({"tool_calls": [rest]})
        for index, delta in enumerate(deltas):
            role = {"role": "assistant"} if index == 0 else {}
            yield self._event({"index": 0, "delta": role | delta, "finish_reason": None})

    def finish(self, reason: str) -> bytes:
        """Returns the event that says why the answer ended."""
        return self._event({"index": 0, "delta": {}, "finish_reason": reason})

    def usage(self, usage: dict[str, Any]) -> bytes:
        """Returns the event that says what was used."""
        return event({**self._base, "choices": [], "usage": usage})

    def _event(self, choice: dict[str, Any]) -> bytes:
        return event({**self._base, "choices": [choice]})


def event(value: Any) -> bytes:
    """Returns a server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def error(message: str, *, code: str | None, kind: str) -> bytes:
    """Returns the body of a refusal."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def embeddings(texts: Sequence[str], *, model: str, dimensions: int, tokens: int) -> bytes:
    """Returns vectors of length 1, the same for the same text."""
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, dimensions)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def models(names: Sequence[str], *, owner: str) -> bytes:
    """Returns the list of models."""
    data = [
        {"id": name, "object": "model", "created": _CREATED, "owned_by": owner} for name in names
    ]
    return orjson.dumps({"object": "list", "data": data})


def _vector(text: str, dimensions: int) -> list[float]:
    random = Random(text)  # noqa: S311  (nothing here is secret)
    values = [random.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def _call(call: Any) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _with_arguments(call: dict[str, Any], arguments: str) -> dict[str, Any]:
    return call | {"function": call["function"] | {"arguments": arguments}}
