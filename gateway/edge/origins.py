"""Which web pages may call the gateway."""

import re
from collections.abc import Sequence

from gateway.edge.authentication import CREDENTIALS
from gateway.envoy.core import HeaderMatcher, RegexMatcher, StringMatcher
from gateway.envoy.filters import CorsPolicy

_ANY_PORT = ":*"

# What pages send: gRPC-Web's own headers, and those of tracing and deadlines.
_REQUEST_HEADERS = (
    "content-type",
    "x-grpc-web",
    "x-user-agent",
    "grpc-timeout",
    "x-request-id",
    "traceparent",
    "tracestate",
    *CREDENTIALS,
)
# What OpenAI's client sends besides, and what of ours it may be given.
_OPENAI_REQUEST_HEADERS = (
    "openai-organization",
    "openai-project",
    *(
        f"x-stainless-{name}"
        for name in (
            *("arch", "lang", "os", "package-version", "runtime", "runtime-version"),
            *("helper-method", "poll-helper", "retry-count", "timeout", "read-timeout"),
        )
    ),
    *(
        f"x-stepwire-{name}"
        for name in (
            *("project", "task-id", "step-id"),
            *("min-quality", "cache", "timeout-seconds"),
        )
    ),
)
# What scripts of the page may read of an answer: gRPC-Web's clients, and OpenAI's.
_RESPONSE_HEADERS = (
    *("grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"),
    *("retry-after", "retry-after-ms", "x-should-retry"),
    *("x-stepwire-model", "x-stepwire-decision-id", "x-stepwire-cost-micro-usd"),
)


def cors_policy(origins: Sequence[str]) -> CorsPolicy:
    """Returns what browsers are told about pages of these origins."""
    return CorsPolicy(
        allow_origin_string_match=tuple(_matcher(origin) for origin in origins),
        allow_methods="GET, POST, PATCH, DELETE",
        allow_headers=", ".join(_REQUEST_HEADERS + _OPENAI_REQUEST_HEADERS),
        expose_headers=", ".join(_RESPONSE_HEADERS),
        max_age="7200",
    )


def foreign_origin(origins: Sequence[str]) -> tuple[HeaderMatcher, ...]:
    """Returns the match for calls that a page of any other origin makes.

    CORS alone keeps such a page from reading the answer, not from making the call: a
    form can be posted anywhere.
    """
    own = "|".join(_regex(origin) for origin in origins) or "^$"
    return (
        HeaderMatcher(name="origin", present_match=True),
        HeaderMatcher(
            name="origin",
            string_match=StringMatcher(safe_regex=RegexMatcher(regex=own)),
            invert_match=True,
        ),
    )


def _matcher(origin: str) -> StringMatcher:
    if origin.endswith(_ANY_PORT):
        return StringMatcher(safe_regex=RegexMatcher(regex=_regex(origin)))
    return StringMatcher(exact=origin)


def _regex(origin: str) -> str:
    if origin.endswith(_ANY_PORT):
        return re.escape(origin.removesuffix(_ANY_PORT)) + "(:[0-9]+)?"
    return re.escape(origin)
