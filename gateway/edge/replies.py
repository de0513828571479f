"""Envoy's own errors in the shape of the services' errors.

When no service answers (down, overloaded, too slow, no such method), Envoy does. Its
answers are rewritten here: for gRPC clients to a status with the details of
`google.rpc.Status`, for JSON clients to the same message as JSON.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status

from gateway.authz.wire import MISSING_SCOPE, REFUSED
from gateway.edge.authentication import AUTHENTICATION_FILTER
from gateway.edge.headers import FROM_GRPC
from gateway.envoy.core import (
    AppendAction,
    DataSource,
    HeaderMatcher,
    HeaderValueOption,
    RegexMatcher,
    StringMatcher,
    SubstitutionFormat,
    header,
)
from gateway.envoy.observe import (
    AndFilter,
    Comparison,
    ComparisonOp,
    HeaderFilter,
    LocalReplyConfig,
    LogFilter,
    MetadataFilter,
    MetadataMatcher,
    PathSegment,
    ResponseFlagFilter,
    ResponseMapper,
    RuntimeUInt32,
    StatusCodeFilter,
    ValueMatcher,
)
from gateway.mesh import HEALTH_PATH, PUBLIC_SERVICES
from gateway.public import Scope, Upstream
from gateway.settings import GatewaySettings
from stepwire.errors import FieldFault, Reason, StepwireError
from stepwire.rpc.status import DETAILS_KEY, to_proto

_ENVOYS_TEXT = "%LOCAL_REPLY_BODY%"
_CLUSTER = "%UPSTREAM_CLUSTER%"
_REQUEST_ID = "%REQ(X-REQUEST-ID)%"
_OPENAI_PATH = "/v1/(chat/completions|embeddings|models(/[^/:?]+)?)([?].*)?"
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_UNAVAILABLE = 503
_TOO_MANY = 429
_SERVERS_FAULT = 500
_OVERWRITE = AppendAction.OVERWRITE_IF_EXISTS_OR_ADD

# https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
_UNREACHABLE_FLAGS = ("UF", "UH", "UC", "UR", "LR", "URX")
_OVERLOADED_FLAGS = ("UO", "OM")
_REFUSED_FLAGS = ("UAEX",)

_OPENAI_KINDS = {
    _UNAUTHORIZED: "authentication_error",
    _FORBIDDEN: "permission_error",
    _TOO_MANY: "rate_limit_error",
}
# What callers are told whose key is not good, in the order of the reasons.
_KEY_FAULTS = {
    Reason.KEY_MISSING: "the call brings no key: send it as `authorization: Bearer KEY`, or as "
    "`x-api-key: KEY`",
    Reason.KEY_INVALID: "the call's key is not known here",
    Reason.KEY_EXPIRED: "the call's key has expired",
    Reason.KEY_REVOKED: "the call's key was revoked",
}


@dataclass(frozen=True)
class Refusal:
    """One kind of error that Envoy answers with.

    Attributes:
        when: The answers that are of this kind.
        status: What to tell instead. Texts may hold Envoy's command operators; such a
            status is not sent to gRPC clients in its binary form.
        http_status: HTTP status for JSON clients.
    """

    when: LogFilter
    status: Status
    http_status: int

    @property
    def fixed(self) -> bool:
        """Whether the status says the same in every answer."""
        return "%" not in self.status.message


def local_replies(settings: GatewaySettings) -> LocalReplyConfig:
    """Returns the rewriting of all answers that Envoy gives itself."""
    refusals = _refusals(settings)
    return LocalReplyConfig(
        mappers=(
            # The index page and /healthz, which are no errors.
            ResponseMapper(
                filter=_status_code(ComparisonOp.EQ, 200),
                body_format_override=_text(_ENVOYS_TEXT, content_type="application/json"),
            ),
            _draining(),
            *(_for_grpc(refusal) for refusal in (*_unreachable_by_service(), *refusals)),
            *(_for_openai(refusal) for refusal in (_unreachable("router"), *refusals)),
            *(_for_json(refusal) for refusal in (_unreachable(_CLUSTER), *refusals)),
        ),
        body_format=_text(_ENVOYS_TEXT),
    )


def _refusals(settings: GatewaySettings) -> Sequence[Refusal]:
    """All kinds but the first (no answer of the service), the special ones before 4xx, 5xx."""
    overloaded = StepwireError(
        Reason.OVERLOADED,
        "the gateway is at a limit of calls",
        metadata={"limit": "gateway"},
        retry_after=timedelta(seconds=1),
    )
    too_late = StepwireError(
        Reason.DEADLINE_EXCEEDED, "the call's deadline passed before the service answered"
    )
    too_large = StepwireError(
        Reason.PAYLOAD_TOO_LARGE,
        f"a JSON request may have at most {settings.max_json_request_bytes} bytes",
        metadata={"limit_bytes": str(settings.max_json_request_bytes)},
    )
    malformed = StepwireError(
        Reason.FIELD_INVALID, _ENVOYS_TEXT, faults=[FieldFault("", _ENVOYS_TEXT)]
    )
    internal = StepwireError(Reason.INTERNAL, _ENVOYS_TEXT, metadata={"request_id": _REQUEST_ID})
    return (
        *(_keys() if settings.authentication == "keys" else ()),
        Refusal(_flags(_OVERLOADED_FLAGS), to_proto(overloaded), 429),
        Refusal(_status_code(ComparisonOp.EQ, 408), to_proto(too_late), 408),
        Refusal(_status_code(ComparisonOp.EQ, 504), to_proto(too_late), 504),
        Refusal(_status_code(ComparisonOp.EQ, 413), to_proto(too_large), 413),
        # These two are not about a service's work, and have no reason among its errors.
        Refusal(
            _status_code(ComparisonOp.EQ, 404),
            _bare(grpc.StatusCode.UNIMPLEMENTED, "no such method or path"),
            404,
        ),
        Refusal(
            _status_code(ComparisonOp.EQ, 403),
            _bare(grpc.StatusCode.PERMISSION_DENIED, "pages of this origin may not call here"),
            403,
        ),
        Refusal(_status_code(ComparisonOp.LE, 499), to_proto(malformed), 400),
        Refusal(_status_code(ComparisonOp.GE, 500), to_proto(internal), 500),
    )


def _keys() -> Iterator[Refusal]:
    """Yields what becomes of calls that the companion refuses, or does not answer for."""
    for reason, message in _KEY_FAULTS.items():
        yield Refusal(_said(reason), to_proto(StepwireError(reason, message)), _UNAUTHORIZED)
    for scope in Scope:
        missing = StepwireError(
            Reason.SCOPE_MISSING,
            f"the call's key lacks the scope `{scope.value}`",
            metadata={"scope": scope.value},
        )
        yield Refusal(_said(Reason.SCOPE_MISSING, scope), to_proto(missing), _FORBIDDEN)
    # The companion does without Postgres for the keys that it knows.
    yield Refusal(_said(Reason.DEPENDENCY_UNAVAILABLE), _unchecked("postgres"), _UNAVAILABLE)
    unanswered = _both(_flags(_REFUSED_FLAGS), _status_code(ComparisonOp.EQ, _UNAVAILABLE))
    yield Refusal(unanswered, _unchecked(Upstream.COMPANION.value), _UNAVAILABLE)


def _unchecked(dependency: str) -> Status:
    return to_proto(
        StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the call's key cannot be checked: {dependency} does not answer",
            metadata={"dependency": dependency},
        )
    )


def _draining() -> ResponseMapper:
    """The health of a gateway that is to be stopped, which is no error of a call."""
    path = HeaderMatcher(name=":path", string_match=StringMatcher(exact=HEALTH_PATH))
    return ResponseMapper(
        filter=_both(_header(path), _status_code(ComparisonOp.EQ, 503)),
        body_format_override=_text("draining"),
    )


def _unreachable(name: str, *, service: str = "") -> Refusal:
    error = StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the {name} service does not answer",
        metadata={"dependency": name},
    )
    when = _flags(_UNREACHABLE_FLAGS)
    if service:
        path = StringMatcher(prefix=f"/{service}/")
        when = _both(when, _header(HeaderMatcher(name=":path", string_match=path)))
    return Refusal(when, to_proto(error), 503)


def _unreachable_by_service() -> Iterator[Refusal]:
    """One per service: the details of gRPC are binary, and Envoy cannot fill them in."""
    for service in PUBLIC_SERVICES:
        yield _unreachable(service.upstream.value, service=service.name)


def _for_grpc(refusal: Refusal) -> ResponseMapper:
    code = header("grpc-status", str(refusal.status.code), _OVERWRITE)
    return ResponseMapper(
        filter=_both(_from_grpc_client(), refusal.when),
        body_format_override=_text(refusal.status.message),
        headers_to_add=(code, _details(refusal.status)) if refusal.fixed else (code,),
    )


def _for_json(refusal: Refusal) -> ResponseMapper:
    return ResponseMapper(
        filter=refusal.when,
        status_code=refusal.http_status,
        headers_to_add=_http_headers(refusal),
        body_format_override=SubstitutionFormat(json_format=_as_json(refusal.status)),
    )


def _for_openai(refusal: Refusal) -> ResponseMapper:
    path = HeaderMatcher(
        name=":path", string_match=StringMatcher(safe_regex=RegexMatcher(regex=_OPENAI_PATH))
    )
    wait = header("retry-after", "1", _OVERWRITE)
    return ResponseMapper(
        filter=_both(_header(path), refusal.when),
        status_code=refusal.http_status,
        headers_to_add=(wait,) if refusal.http_status == _TOO_MANY else _http_headers(refusal),
        body_format_override=SubstitutionFormat(json_format=_as_openai(refusal)),
    )


def _as_openai(refusal: Refusal) -> dict[str, Any]:
    """Returns a status as OpenAI's API writes errors, and router_svc after it."""
    details = MessageToDict(refusal.status).get("details", [])
    reasons = [each["reason"].lower() for each in details if "reason" in each]
    kind = _OPENAI_KINDS.get(refusal.http_status, "invalid_request_error")
    return {
        "error": {
            "message": refusal.status.message,
            "type": "server_error" if refusal.http_status >= _SERVERS_FAULT else kind,
            "code": reasons[0] if reasons else "",
            "request_id": _REQUEST_ID,
        }
    }


def _as_json(status: Status) -> dict[str, Any]:
    """Returns a status as the transcoder writes the services' ones."""
    return {
        "code": status.code,
        "message": status.message,
        "details": MessageToDict(status, preserving_proto_field_name=True).get("details", []),
    }


def _http_headers(refusal: Refusal) -> tuple[HeaderValueOption, ...]:
    if refusal.http_status != _UNAUTHORIZED:
        return ()
    return (header("www-authenticate", "Bearer", _OVERWRITE),)


def _details(status: Status) -> HeaderValueOption:
    value = base64.b64encode(status.SerializeToString(deterministic=True)).decode("ascii")
    # gRPC's base64 of binary headers goes without padding; it is read with or without.
    return header(DETAILS_KEY, value.rstrip("="), _OVERWRITE)


def _bare(code: grpc.StatusCode, message: str) -> Status:
    return Status(code=code.value[0], message=message)


def _text(text: str, *, content_type: str | None = None) -> SubstitutionFormat:
    return SubstitutionFormat(
        text_format_source=DataSource(inline_string=text), content_type=content_type
    )


def _from_grpc_client() -> LogFilter:
    content_type = StringMatcher(prefix="application/grpc")
    return _both(
        _header(HeaderMatcher(name="content-type", string_match=content_type)),
        _header(FROM_GRPC),
    )


def _both(*filters: LogFilter) -> LogFilter:
    return LogFilter(and_filter=AndFilter(filters=filters))


def _flags(flags: tuple[str, ...]) -> LogFilter:
    return LogFilter(response_flag_filter=ResponseFlagFilter(flags=flags))


def _said(reason: Reason, scope: Scope | None = None) -> LogFilter:
    """Returns the match for calls that the companion has refused for a reason."""
    says = _left(REFUSED, reason.value)
    return says if scope is None else _both(says, _left(MISSING_SCOPE, scope.value))


def _left(name: str, value: str) -> LogFilter:
    matcher = MetadataMatcher(
        filter=AUTHENTICATION_FILTER,
        path=(PathSegment(key=name),),
        value=ValueMatcher(string_match=StringMatcher(exact=value)),
    )
    return LogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False))


def _header(matcher: HeaderMatcher) -> LogFilter:
    return LogFilter(header_filter=HeaderFilter(header=matcher))


def _status_code(op: ComparisonOp, code: int) -> LogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key="stepwire.local_reply_status")
    return LogFilter(status_code_filter=StatusCodeFilter(comparison=Comparison(op=op, value=value)))
