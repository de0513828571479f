"""How a provider says no: status, body and headers of each fault that is a plain answer."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from stepwire.testing.fleet import bodies
from stepwire.testing.fleet.plan import Fault, FaultKind


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    code: str | None
    kind: str
    message: str


_FORMS: Mapping[FaultKind, _Form] = {
    FaultKind.RATE_LIMITED: _Form(
        429, "rate_limit_exceeded", "requests", "Rate limit reached for requests"
    ),
    FaultKind.NO_CREDIT: _Form(
        402, "insufficient_quota", "insufficient_quota", "You exceeded your current quota"
    ),
    FaultKind.CONTEXT_TOO_LONG: _Form(
        400,
        "context_length_exceeded",
        "invalid_request_error",
        "This model's maximum context length is exceeded",
    ),
    FaultKind.CONTENT_FILTERED: _Form(
        400, "content_filter", "invalid_request_error", "The prompt was filtered"
    ),
    FaultKind.BAD_REQUEST: _Form(400, None, "invalid_request_error", "The request is invalid"),
    FaultKind.UNAUTHORIZED: _Form(
        401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided"
    ),
    FaultKind.SERVER_ERROR: _Form(500, None, "server_error", "The server had an error"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def refusal_of(fault: Fault) -> Refusal | None:
    """Returns the answer that `fault` is; None for those that are no plain answers."""
    form = _FORMS.get(fault.kind)
    if form is None:
        return None
    return Refusal(
        status=fault.status or form.status,
        body=bodies.error(fault.message or form.message, code=form.code, kind=form.kind),
        headers=_retry_after(fault),
    )


def refuse(status: int, message: str, *, code: str | None = None) -> Refusal:
    """Returns a refusal of a request that is wrong in itself."""
    return Refusal(status, bodies.error(message, code=code, kind="invalid_request_error"), {})


def _retry_after(fault: Fault) -> Mapping[str, str]:
    seconds = fault.retry_after_seconds
    if seconds is None:
        return {}
    if fault.retry_after_as == "date":
        # A date has whole seconds; rounded up, so that it is never too early.
        return {"retry-after": formatdate(math.ceil(time.time() + seconds), usegmt=True)}
    return {"retry-after": f"{seconds:g}"}
