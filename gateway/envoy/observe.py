"""Access logs, conditions on responses, and tracing."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar

from gateway.envoy.core import (
    FractionalPercent,
    GrpcService,
    HeaderMatcher,
    HeaderValueOption,
    StringMatcher,
    SubstitutionFormat,
    TypedConfig,
)
from gateway.envoy.message import Message


@dataclass(frozen=True, kw_only=True)
class FileAccessLog(Message):
    """extensions.access_loggers.file.v3.FileAccessLog."""

    TYPE: ClassVar[str] = "envoy.extensions.access_loggers.file.v3.FileAccessLog"

    path: str
    log_format: SubstitutionFormat


@dataclass(frozen=True, kw_only=True)
class StdoutAccessLog(Message):
    """extensions.access_loggers.stream.v3.StdoutAccessLog."""

    TYPE: ClassVar[str] = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"

    log_format: SubstitutionFormat


class ComparisonOp(Enum):
    """config.accesslog.v3.ComparisonFilter.Op."""

    EQ = auto()
    GE = auto()
    LE = auto()


@dataclass(frozen=True, kw_only=True)
class RuntimeUInt32(Message):
    """config.core.v3.RuntimeUInt32."""

    default_value: int
    runtime_key: str


@dataclass(frozen=True, kw_only=True)
class Comparison(Message):
    """config.accesslog.v3.ComparisonFilter."""

    op: ComparisonOp
    value: RuntimeUInt32


@dataclass(frozen=True, kw_only=True)
class StatusCodeFilter(Message):
    """config.accesslog.v3.StatusCodeFilter."""

    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class ResponseFlagFilter(Message):
    """config.accesslog.v3.ResponseFlagFilter."""

    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeaderFilter(Message):
    """config.accesslog.v3.HeaderFilter, on request headers."""

    header: HeaderMatcher


@dataclass(frozen=True, kw_only=True)
class PathSegment(Message):
    """type.matcher.v3.MetadataMatcher.PathSegment."""

    key: str


@dataclass(frozen=True, kw_only=True)
class ValueMatcher(Message):
    """type.matcher.v3.ValueMatcher, of its forms the one used."""

    string_match: StringMatcher


@dataclass(frozen=True, kw_only=True)
class MetadataMatcher(Message):
    """type.matcher.v3.MetadataMatcher: what a filter has left about the call."""

    filter: str
    path: tuple[PathSegment, ...]
    value: ValueMatcher


@dataclass(frozen=True, kw_only=True)
class MetadataFilter(Message):
    """config.accesslog.v3.MetadataFilter."""

    matcher: MetadataMatcher
    match_if_key_not_found: bool


@dataclass(frozen=True, kw_only=True)
class AndFilter(Message):
    """config.accesslog.v3.AndFilter; takes two or more."""

    filters: tuple["LogFilter", ...]


@dataclass(frozen=True, kw_only=True)
class LogFilter(Message):
    """config.accesslog.v3.AccessLogFilter; exactly one field is set."""

    status_code_filter: StatusCodeFilter | None = None
    response_flag_filter: ResponseFlagFilter | None = None
    header_filter: HeaderFilter | None = None
    metadata_filter: MetadataFilter | None = None
    and_filter: AndFilter | None = None


@dataclass(frozen=True, kw_only=True)
class AccessLog(Message):
    """config.accesslog.v3.AccessLog."""

    name: str
    filter: LogFilter
    typed_config: FileAccessLog | StdoutAccessLog


@dataclass(frozen=True, kw_only=True)
class ResponseMapper(Message):
    """…http_connection_manager.v3.ResponseMapper."""

    filter: LogFilter
    status_code: int | None = None
    body_format_override: SubstitutionFormat
    headers_to_add: tuple[HeaderValueOption, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LocalReplyConfig(Message):
    """…http_connection_manager.v3.LocalReplyConfig; the first mapper that fits is taken."""

    mappers: tuple[ResponseMapper, ...]
    body_format: SubstitutionFormat


@dataclass(frozen=True, kw_only=True)
class RatioSampler(Message):
    """extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig."""

    TYPE: ClassVar[str] = (
        "envoy.extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig"
    )

    sampling_percentage: FractionalPercent


@dataclass(frozen=True, kw_only=True)
class ParentSampler(Message):
    """extensions.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig.

    Follows the caller's decision; `wrapped_sampler` decides where there is none.
    """

    TYPE: ClassVar[str] = (
        "envoy.extensions.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig"
    )

    wrapped_sampler: TypedConfig


@dataclass(frozen=True, kw_only=True)
class OpenTelemetryTracer(Message):
    """config.trace.v3.OpenTelemetryConfig."""

    TYPE: ClassVar[str] = "envoy.config.trace.v3.OpenTelemetryConfig"

    grpc_service: GrpcService
    service_name: str
    sampler: TypedConfig


@dataclass(frozen=True, kw_only=True)
class CustomTag(Message):
    """type.tracing.v3.CustomTag."""

    tag: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Tracing(Message):
    """…http_connection_manager.v3.HttpConnectionManager.Tracing."""

    operation: str
    custom_tags: tuple[CustomTag, ...]
    spawn_upstream_span: bool
    provider: TypedConfig


@dataclass(frozen=True, kw_only=True)
class LogFormat(Message):
    """config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat."""

    json_format: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ApplicationLogConfig(Message):
    """config.bootstrap.v3.Bootstrap.ApplicationLogConfig."""

    log_format: LogFormat
