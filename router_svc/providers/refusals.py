"""Classifies the errors of OpenAI-compatible providers, which agree on less than they seem to."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.providers.retry_after import read_retry_after

# What a provider says about an error is passed on, up to this many characters.
MESSAGE_CHARACTERS = 300

_TOO_MANY_REQUESTS = 429
_PAYLOAD_TOO_LARGE = 413
_PAYMENT_REQUIRED = 402
_STATUS_DIGITS = 3
_REDIRECTS = 300
_CLIENT_ERRORS = 400
_SERVER_ERRORS = 500
_ABOUT_THE_KEY = frozenset({401, 403})
_MISCONFIGURED = frozenset({401, 403, 404})
# Too early, conflict, request timeout: the server's own troubles with time.
_PASSING = frozenset({408, 409, 425})

_CREDIT_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_funds"}
)
_LIMIT_CODE = "rate_limit_exceeded"
_LENGTH_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "moderation_blocked",
        "ResponsibleAIPolicyViolation",
    }
)
# For the providers that have no code, or one for everything.
_CREDIT_WORDS = re.compile(
    r"credit balance|insufficient (credit|balance|fund|quota)|exceeded your current quota"
    r"|out of credit|no credit|billing",
    re.IGNORECASE,
)
_LENGTH_WORDS = re.compile(
    r"context (length|window)|maximum context|prompt is too long|too many (input )?tokens"
    r"|input is too long|exceeds? the (model'?s )?(maximum|limit) (of|number of)? ?tokens",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(
    r"content (filter|management policy|policy)|safety system", re.IGNORECASE
)


def refusal_of(
    status: int, headers: Mapping[str, str], body: bytes, *, key: str | None
) -> ProviderFailure:
    """Returns the failure that an answer with an error status means.

    Args:
        status: The HTTP status.
        headers: The answer's headers, names in lower case.
        body: The answer's body.
        key: The key that was sent; it is taken out of what the provider says.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        given = None
    code, said = _read(given)
    kind = _kind(status, code, said)
    if status < _CLIENT_ERRORS:
        # No redirect is followed: the address is wrong. Nor is a success without an answer one.
        kind = FailureKind.NONSENSE if status < _REDIRECTS else FailureKind.MISCONFIGURED
    return ProviderFailure(
        kind,
        f"the endpoint answered {status}" + _told(status, said, key),
        status=str(status),
        retry_after=read_retry_after(headers, now=datetime.now(UTC)),
    )


def error_told(error: Any, where: str, *, key: str | None) -> ProviderFailure:
    """Returns the failure that an error means which a status does not tell.

    Args:
        error: What stands in the place of an answer.
        where: Where it stands, for people.
        key: The key that was sent; it is taken out of what the provider says.
    """
    code, said = _read({"error": error})
    is_status = len(code) == _STATUS_DIGITS and code.isdecimal()
    status = int(code) if is_status else _SERVER_ERRORS
    kind = _kind(status, code, said)
    if not is_status and kind is FailureKind.SERVER:
        # No status speaks against the words.
        kind = _by_words(said) or kind
    return ProviderFailure(
        kind,
        f"{where}{_told(status, said, key)}",
        status=str(status),
    )


def _kind(status: int, code: str, said: str) -> FailureKind:  # noqa: PLR0911  (one for each class)
    if status == _PAYMENT_REQUIRED or code in _CREDIT_CODES:
        return FailureKind.NO_CREDIT
    is_limit = code == _LIMIT_CODE
    # What is said of a limit may name the page where a higher one is paid for.
    if status < _SERVER_ERRORS and not is_limit and _CREDIT_WORDS.search(said):
        return FailureKind.NO_CREDIT
    if status == _TOO_MANY_REQUESTS or is_limit:
        return FailureKind.RATE_LIMITED
    if code in _FILTER_CODES:
        return FailureKind.CONTENT_FILTERED
    if status == _PAYLOAD_TOO_LARGE or code in _LENGTH_CODES:
        return FailureKind.CONTEXT_TOO_LONG
    if status >= _SERVER_ERRORS or status in _PASSING:
        return FailureKind.SERVER
    if status in _MISCONFIGURED:
        return FailureKind.MISCONFIGURED
    return _by_words(said) or FailureKind.BAD_REQUEST


def _by_words(said: str) -> FailureKind | None:
    """Returns what the words of an error mean; None when they say nothing in particular."""
    if _CREDIT_WORDS.search(said):
        return FailureKind.NO_CREDIT
    if _LENGTH_WORDS.search(said):
        return FailureKind.CONTEXT_TOO_LONG
    if _FILTER_WORDS.search(said):
        return FailureKind.CONTENT_FILTERED
    return None


def _read(given: Any) -> tuple[str, str]:
    """Returns the code and the words of an error body, as far as it has them."""
    # Some put the one error into a list.
    if isinstance(given, list) and given:
        given = given[0]
    error = given.get("error", given) if isinstance(given, dict) else given
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    code = error.get("code") or error.get("type") or ""
    if str(error.get("type")) in _CREDIT_CODES:
        code = error["type"]
    return str(code), str(error.get("message") or "")


def _told(status: int, said: str, key: str | None) -> str:
    """Returns what the provider says, shortened, without the key.

    Answers about a key repeat parts of it, so their text is not used at all.
    """
    if not said or status in _ABOUT_THE_KEY:
        return ""
    text = (said.replace(key, "***") if key else said).replace("\0", "")
    return ": " + " ".join(text.split())[:MESSAGE_CHARACTERS]
