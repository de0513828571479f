"""Writes the router's answers as chat completions, whole and in chunks."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict

from router_svc.generate.records import Answer, FinishReason, Piece
from router_svc.generate.usage import Usage
from router_svc.openai_api.chat_request import HEADER_PREFIX, Chat
from router_svc.requests.encode import encode_answer
from router_svc.requests.records import ToolCall

DONE = b"data: [DONE]\n\n"
MODEL = f"{HEADER_PREFIX}model"
DECISION_ID = f"{HEADER_PREFIX}decision-id"
COST = f"{HEADER_PREFIX}cost-micro-usd"

# What of the router's own answer stands in `stepwire`, besides what is put there by name.
_LEFT_OUT = ("usage", "finish_reason", "text", "tool_calls", "model")


def headers_of(answer: Answer) -> dict[str, str]:
    """Returns what the headers of a whole answer tell."""
    return {
        MODEL: answer.model.name,
        DECISION_ID: str(answer.decision.decision_id),
        COST: str(answer.cost_micro_usd),
    }


def completion(answer: Answer, chat: Chat) -> bytes:
    """Returns a whole answer as a chat completion."""
    said = answer.completion
    message: dict[str, Any] = {
        "role": "assistant",
        "content": said.text or None,
        "refusal": None,
    }
    if said.tool_calls:
        message["tool_calls"] = [_call(each) for each in said.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    return orjson.dumps(
        {
            **_head("chat.completion", answer.model.name),
            "choices": [choice],
            "usage": _usage(answer.usage),
            "stepwire": _account(answer, chat),
        }
    )


class Chunks:
    """The events of one streamed answer.

    Args:
        chat: What was asked.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._head = _head("chat.completion.chunk", chat.model)
        # Every chunk has the field when the client asks for usage, OpenAI says.
        if chat.include_usage:
            self._head["usage"] = None
        self._calls = 0
        self._begun = False

    def of(self, piece: Piece) -> Iterator[bytes]:
        """Yields the events of a piece."""
        if piece.end is not None:
            yield from self._end(piece.end)
        elif piece.tool_call is not None:
            call = {"index": self._calls, **_call(piece.tool_call)}
            self._calls += 1
            yield self._event(self._choice({"tool_calls": [call]}))
        else:
            yield self._event(self._choice({"content": piece.text}))

    def _end(self, answer: Answer) -> Iterator[bytes]:
        # Only now it is known who answers.
        self._head["model"] = answer.model.name
        choice = self._choice({}) | {"finish_reason": _finish(answer)}
        yield self._event(choice, stepwire=_account(answer, self._chat))
        if self._chat.include_usage:
            yield _event({**self._head, "choices": [], "usage": _usage(answer.usage)})
        yield DONE

    def _choice(self, delta: dict[str, Any]) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": None, **delta}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}

    def _event(self, choice: dict[str, Any], **more: Any) -> bytes:
        return _event({**self._head, "choices": [choice], **more})


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


def _finish(answer: Answer) -> str:
    said = answer.completion
    finish = said.finish
    if finish is FinishReason.UNKNOWN:
        finish = FinishReason.TOOL_CALLS if said.tool_calls else FinishReason.STOP
    return str(finish.value)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _account(answer: Answer, chat: Chat) -> dict[str, Any]:
    """Returns what OpenAI's answers have no place for."""
    account = encode_answer(answer, account_only=True)
    told: dict[str, Any] = {
        "decision_id": account.decision.decision_id,
        "cost_micro_usd": answer.cost_micro_usd,
    }
    if answer.usage.estimated:
        told["usage_estimated"] = True
    if not chat.explain:
        account.ClearField("decision")
    if chat.ignored:
        told["ignored"] = chat.ignored
    for name in _LEFT_OUT:
        account.ClearField(name)  # type: ignore[arg-type]
    return told | MessageToDict(account, preserving_proto_field_name=True)
