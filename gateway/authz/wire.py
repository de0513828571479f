"""Envoy's question and our answers, as HTTP/1.1. Pure.

A question is a request without a body, whose path is that of the call behind a prefix. An
answer has none either: Envoy takes the tenant from it, or tells the caller of the reason.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.mesh import HEALTH_PATH
from gateway.public import Scope
from stepwire.errors import Reason
from stepwire.rpc.metadata import TENANT_ID

PREFIX: Final = "/check"
AUTHORIZATION_HEADER: Final = "authorization"
API_KEY_HEADER: Final = "x-api-key"

KEY_ID: Final = "x-stepwire-key-id"
REFUSED: Final = "x-stepwire-refused"
MISSING_SCOPE: Final = "x-stepwire-missing-scope"
"""Headers of an answer: which key has passed, why the call is refused, and for want of what."""

END: Final = b"\r\n\r\n"
_LINE: Final = "\r\n"
_ANSWERS_KEPT: Final = 4096
_UNAUTHORIZED: Final = 401
# What Envoy is told; it tells the caller another where that is not what is meant. To Envoy,
# 5xx is no answer.
_STATUS: Final = {Reason.SCOPE_MISSING: 403, Reason.DEPENDENCY_UNAVAILABLE: 429}


class MalformedError(Exception):
    """What came is no question of Envoy's."""


@dataclass(frozen=True, slots=True)
class Question:
    """What Envoy tells of a call.

    Attributes:
        path: The call's path; None when only our health is asked for.
        authorization: The header of this name; empty if there is none.
        api_key: The header `x-api-key`; likewise.
    """

    path: str | None
    authorization: str
    api_key: str


def read_question(head: bytes) -> Question:
    """Reads the head of a request, without the empty line at its end.

    Raises:
        MalformedError: It is none, has a body, or a header that is no name, colon and value.
    """
    first, *lines = head.decode("latin-1").split(_LINE)
    parts = first.split(" ")
    if len(parts) != len(("method", "path", "protocol")):
        raise MalformedError(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # A name that another reader may take for another one, or a line that goes on.
        if not colon or not name or " " in name or "\t" in name:
            raise MalformedError(name)
        name = name.lower()
        value = value.strip()
        # Two keys are no key.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise MalformedError("has a body")
    path = parts[1]
    if path != HEALTH_PATH and not path.startswith(f"{PREFIX}/"):
        raise MalformedError(path)
    return Question(
        None if path == HEALTH_PATH else path.removeprefix(PREFIX),
        headers.get(AUTHORIZATION_HEADER, ""),
        headers.get(API_KEY_HEADER, ""),
    )


@lru_cache(maxsize=_ANSWERS_KEPT)
def allow(key_id: str, tenant_id: str) -> bytes:
    """Writes the answer that lets a call pass as its key's tenant."""
    return _answer(200, {TENANT_ID: tenant_id, KEY_ID: key_id})


@lru_cache(maxsize=_ANSWERS_KEPT)
def deny(reason: Reason, scope: Scope | None) -> bytes:
    """Writes the answer that refuses a call, for want of a scope if that is the reason."""
    headers = {REFUSED: reason.value}
    if reason is Reason.SCOPE_MISSING and scope is not None:
        headers[MISSING_SCOPE] = scope.value
    return _answer(_STATUS.get(reason, _UNAUTHORIZED), headers)


def _answer(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} -", "content-length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return _LINE.join(lines).encode("latin-1") + END


HEALTHY: Final = _answer(200, {})
MALFORMED: Final = _answer(400, {"connection": "close"})
BROKEN: Final = _answer(500, {"connection": "close"})
