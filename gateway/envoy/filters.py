"""HTTP filters and other extensions of the connection manager."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import ClassVar

from gateway.envoy.core import (
    DataSource,
    HeaderMatcher,
    HeaderValueOption,
    StringMatcher,
)
from gateway.envoy.message import Message

_HTTP = "envoy.extensions.filters.http."


@dataclass(frozen=True, kw_only=True)
class HeaderMutation(Message):
    """config.common.mutation_rules.v3.HeaderMutation; one field is set."""

    remove: str | None = None
    append: HeaderValueOption | None = None


@dataclass(frozen=True, kw_only=True)
class EarlyHeaderMutation(Message):
    """extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation."""

    TYPE: ClassVar[str] = (
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    )

    mutations: tuple[HeaderMutation, ...]


@dataclass(frozen=True, kw_only=True)
class UuidRequestId(Message):
    """extensions.request_id.uuid.v3.UuidRequestIdConfig."""

    TYPE: ClassVar[str] = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"

    pack_trace_reason: bool
    use_request_id_for_trace_sampling: bool


@dataclass(frozen=True, kw_only=True)
class HealthCheckFilter(Message):
    """extensions.filters.http.health_check.v3.HealthCheck."""

    TYPE: ClassVar[str] = _HTTP + "health_check.v3.HealthCheck"

    pass_through_mode: bool
    headers: tuple[HeaderMatcher, ...]


@dataclass(frozen=True, kw_only=True)
class Cors(Message):
    """extensions.filters.http.cors.v3.Cors."""

    TYPE: ClassVar[str] = _HTTP + "cors.v3.Cors"


@dataclass(frozen=True, kw_only=True)
class CorsPolicy(Message):
    """extensions.filters.http.cors.v3.CorsPolicy."""

    TYPE: ClassVar[str] = _HTTP + "cors.v3.CorsPolicy"

    allow_origin_string_match: tuple[StringMatcher, ...]
    allow_methods: str
    allow_headers: str
    expose_headers: str
    max_age: str


@dataclass(frozen=True, kw_only=True)
class GrpcWeb(Message):
    """extensions.filters.http.grpc_web.v3.GrpcWeb."""

    TYPE: ClassVar[str] = _HTTP + "grpc_web.v3.GrpcWeb"


@dataclass(frozen=True, kw_only=True)
class TranscoderPrintOptions(Message):
    """extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder.PrintOptions."""

    always_print_primitive_fields: bool
    preserve_proto_field_names: bool
    stream_newline_delimited: bool
    stream_sse_style_delimited: bool


@dataclass(frozen=True, kw_only=True)
class TranscoderRequestValidation(Message):
    """…GrpcJsonTranscoder.RequestValidationOptions."""

    reject_unknown_query_parameters: bool
    reject_binding_body_field_collisions: bool


@dataclass(frozen=True, kw_only=True)
class GrpcJsonTranscoder(Message):
    """extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder."""

    TYPE: ClassVar[str] = _HTTP + "grpc_json_transcoder.v3.GrpcJsonTranscoder"

    proto_descriptor: str
    services: tuple[str, ...]
    print_options: TranscoderPrintOptions
    request_validation_options: TranscoderRequestValidation
    convert_grpc_status: bool
    query_param_unescape_plus: bool
    max_request_body_size: int
    max_response_body_size: int


class HttpCode(Enum):
    """type.v3.StatusCode."""

    ServiceUnavailable = auto()


@dataclass(frozen=True, kw_only=True)
class HttpStatus(Message):
    """type.v3.HttpStatus."""

    code: HttpCode


@dataclass(frozen=True, kw_only=True)
class ListStringMatcher(Message):
    """type.matcher.v3.ListStringMatcher."""

    patterns: tuple[StringMatcher, ...]


@dataclass(frozen=True, kw_only=True)
class HttpUri(Message):
    """config.core.v3.HttpUri."""

    uri: str
    cluster: str
    timeout: timedelta


@dataclass(frozen=True, kw_only=True)
class AuthorizationResponse(Message):
    """extensions.filters.http.ext_authz.v3.AuthorizationResponse: which headers go where."""

    allowed_upstream_headers: ListStringMatcher
    allowed_client_headers: ListStringMatcher
    dynamic_metadata_from_headers: ListStringMatcher


@dataclass(frozen=True, kw_only=True)
class SimpleRetryPolicy(Message):
    """config.core.v3.RetryPolicy, the one outside of routes."""

    num_retries: int
    retry_on: str


@dataclass(frozen=True, kw_only=True)
class AuthorizationService(Message):
    """extensions.filters.http.ext_authz.v3.HttpService."""

    server_uri: HttpUri
    path_prefix: str
    authorization_response: AuthorizationResponse
    retry_policy: SimpleRetryPolicy


@dataclass(frozen=True, kw_only=True)
class ExtAuthz(Message):
    """extensions.filters.http.ext_authz.v3.ExtAuthz."""

    TYPE: ClassVar[str] = _HTTP + "ext_authz.v3.ExtAuthz"

    http_service: AuthorizationService
    failure_mode_allow: bool
    status_on_error: HttpStatus
    allowed_headers: ListStringMatcher


@dataclass(frozen=True, kw_only=True)
class ExtAuthzPerRoute(Message):
    """extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute."""

    TYPE: ClassVar[str] = _HTTP + "ext_authz.v3.ExtAuthzPerRoute"

    disabled: bool


@dataclass(frozen=True, kw_only=True)
class GrpcStats(Message):
    """extensions.filters.http.grpc_stats.v3.FilterConfig."""

    TYPE: ClassVar[str] = _HTTP + "grpc_stats.v3.FilterConfig"

    stats_for_all_methods: bool
    enable_upstream_stats: bool
    replace_dots_in_grpc_service_name: bool


@dataclass(frozen=True, kw_only=True)
class Lua(Message):
    """extensions.filters.http.lua.v3.Lua."""

    TYPE: ClassVar[str] = _HTTP + "lua.v3.Lua"

    source_codes: Mapping[str, DataSource]


@dataclass(frozen=True, kw_only=True)
class LuaPerRoute(Message):
    """extensions.filters.http.lua.v3.LuaPerRoute."""

    TYPE: ClassVar[str] = _HTTP + "lua.v3.LuaPerRoute"

    name: str


@dataclass(frozen=True, kw_only=True)
class Router(Message):
    """extensions.filters.http.router.v3.Router."""

    TYPE: ClassVar[str] = _HTTP + "router.v3.Router"

    suppress_envoy_headers: bool


@dataclass(frozen=True, kw_only=True)
class PreviousHosts(Message):
    """extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate."""

    TYPE: ClassVar[str] = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
