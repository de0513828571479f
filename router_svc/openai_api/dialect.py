"""How OpenAI tells errors, and how its clients tell how long they wait."""

from typing import Any

import grpc
import orjson

from router_svc.openai_api.chat_request import HEADER_PREFIX
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.http import Answer, Asked

TIMEOUT = f"{HEADER_PREFIX}timeout-seconds"
# What OpenAI's own clients send: how long they wait for the next bytes, which is how long
# they wait for an answer that comes as a whole.
_CLIENTS_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")

_INVALID = "invalid_request_error"
_LIMIT = "rate_limit_error"
_SERVER = "server_error"

# HTTP's status and OpenAI's type of each code. The statuses are those that the gateway
# gives for the same code elsewhere.
_FORMS: dict[grpc.StatusCode, tuple[int, str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, _INVALID),
    grpc.StatusCode.FAILED_PRECONDITION: (400, _INVALID),
    grpc.StatusCode.OUT_OF_RANGE: (400, _INVALID),
    grpc.StatusCode.UNAUTHENTICATED: (401, "authentication_error"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "permission_error"),
    grpc.StatusCode.NOT_FOUND: (404, _INVALID),
    grpc.StatusCode.ALREADY_EXISTS: (409, _INVALID),
    grpc.StatusCode.ABORTED: (409, _INVALID),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, _LIMIT),
    grpc.StatusCode.UNAVAILABLE: (503, _SERVER),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, _SERVER),
}
_OTHER = (500, _SERVER)
_TYPES = {Reason.BUDGET_EXHAUSTED: "insufficient_quota"}
_PAYLOAD_TOO_LARGE = 413
# Tried already, as often as it makes sense; clients of OpenAI would try all of it twice more.
_NOT_AGAIN = frozenset({Reason.MODELS_EXHAUSTED, Reason.BUDGET_EXHAUSTED, Reason.DEADLINE_EXCEEDED})
# Asked to wait for longer, they do not wait at all.
_CLIENTS_PATIENCE_SECONDS = 60


class OpenAIDialect:
    """See `stepwire.http.app.Dialect`."""

    def error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> Answer:
        """Returns an error as OpenAI answers with it."""
        status, _ = _FORMS.get(code, _OTHER)
        if error.reason is Reason.PAYLOAD_TOO_LARGE:
            status = _PAYLOAD_TOO_LARGE
        headers: dict[str, str] = {}
        seconds = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
        if error.retry_after is not None:
            headers["retry-after"] = f"{-(-seconds // 1):.0f}"
            headers["retry-after-ms"] = f"{seconds * 1000:.0f}"
        if error.reason in _NOT_AGAIN and not 0 < seconds <= _CLIENTS_PATIENCE_SECONDS:
            headers["x-should-retry"] = "false"
        return Answer(orjson.dumps(_body(error, code, request_id)), status, headers)

    def late_error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> bytes:
        """Returns the event that ends a stream that failed; OpenAI's clients raise it."""
        return b"data: " + orjson.dumps(_body(error, code, request_id)) + b"\n\n"

    def nothing(self, status: int, path: str) -> Answer:
        """Returns the answer for a path, or a method of it, that does not exist."""
        told = {"message": f"nothing is served here: {path}", "type": _INVALID}
        return Answer(orjson.dumps({"error": {**told, "param": None, "code": None}}), status)

    def is_stream(self, asked: Asked) -> bool:
        """Returns whether the body asks for a stream."""
        return isinstance(asked.body, dict) and asked.body.get("stream") is True

    def timeout_seconds(self, asked: Asked, *, stream: bool) -> float | None:
        """Returns how long the caller waits, by its headers."""
        told = asked.headers.get(TIMEOUT)
        if told is None:
            given = (asked.headers.get(header, "") for header in _CLIENTS_TIMEOUTS)
            return None if stream else next(filter(None, map(_positive, given)), None)
        seconds = _positive(told)
        if seconds is None:
            raise field_invalid(TIMEOUT, "must be a number of seconds above 0")
        return seconds


def _positive(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _body(error: StepwireError, code: grpc.StatusCode, request_id: str) -> dict[str, Any]:
    _, kind = _FORMS.get(code, _OTHER)
    stepwire: dict[str, Any] = {"reason": error.reason.value, "metadata": error.metadata}
    if error.faults:
        stepwire["faults"] = [
            {"field": each.field, "description": each.description} for each in error.faults
        ]
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.reason, kind),
            "param": error.faults[0].field if error.faults else None,
            "code": error.reason.value.lower(),
            "request_id": request_id,
            "stepwire": stepwire,
        }
    }
