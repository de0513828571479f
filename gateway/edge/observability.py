"""Access log, log lines and traces of the gateway."""

from collections.abc import Mapping
from datetime import timedelta

from gateway.authz.wire import KEY_ID, REFUSED
from gateway.edge.authentication import AUTHENTICATION_FILTER
from gateway.edge.clusters import OTLP_CLUSTER
from gateway.edge.headers import FROM_GRPC, FROM_JSON
from gateway.envoy.core import (
    Denominator,
    EnvoyGrpc,
    FractionalPercent,
    GrpcService,
    HeaderMatcher,
    SubstitutionFormat,
    TypedConfig,
)
from gateway.envoy.observe import (
    AccessLog,
    ApplicationLogConfig,
    CustomTag,
    FileAccessLog,
    HeaderFilter,
    LogFilter,
    LogFormat,
    OpenTelemetryTracer,
    ParentSampler,
    RatioSampler,
    StdoutAccessLog,
    Tracing,
)
from gateway.settings import GatewaySettings

SERVICE_NAME = "gateway"

_STDOUT = "-"
_PARTS_PER_PERCENT = 10_000

_URL = "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%%PATH(NQ:ORIG_OR_PATH)%"

# The keys are those of the services' log lines where both have one.
_ACCESS_LOG_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
    "service": SERVICE_NAME,
    "http_method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    # The gRPC method, also of calls that came as JSON; their own path is below. Both without
    # the query, in which people put keys, and texts that they search for.
    "path": "%PATH(NQ:PATH)%",
    "original_path": "%PATH(NQ:ORIG)%",
    "protocol": "%PROTOCOL%",
    "http_status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "first_byte_ms": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "user_agent": "%REQ(USER-AGENT)%",
    "tenant_id": "%REQ(X-TENANT-ID)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
}

# With keys.
_KEY_FIELDS = {
    "key_id": f"%DYNAMIC_METADATA({AUTHENTICATION_FILTER}:{KEY_ID})%",
    "refused": f"%DYNAMIC_METADATA({AUTHENTICATION_FILTER}:{REFUSED})%",
}

_LOG_FIELDS = {
    "time": "%Y-%m-%dT%T.%fZ",
    "level": "%l",
    "service": SERVICE_NAME,
    "logger": "%n",
    "message": "%j",
}


def access_log(settings: GatewaySettings) -> tuple[AccessLog, ...]:
    """Returns the log of calls: one JSON object per line, or no log.

    Calls that came as JSON have lines of their own, without `grpc_status`: when such a
    call fails, Envoy no longer knows it, and would guess from the HTTP status.
    """
    if not settings.access_log:
        return ()
    fields = _ACCESS_LOG_FIELDS | ({} if settings.authentication == "off" else _KEY_FIELDS)
    of_json = {key: text for key, text in fields.items() if key != "grpc_status"}
    return (
        _log(settings.access_log, fields, FROM_GRPC),
        _log(settings.access_log, of_json, FROM_JSON),
    )


def _log(path: str, fields: Mapping[str, str], which: HeaderMatcher) -> AccessLog:
    lines = SubstitutionFormat(json_format=fields)
    to_stdout = path == _STDOUT
    return AccessLog(
        name="envoy.access_loggers.stdout" if to_stdout else "envoy.access_loggers.file",
        filter=LogFilter(header_filter=HeaderFilter(header=which)),
        typed_config=(
            StdoutAccessLog(log_format=lines)
            if to_stdout
            else FileAccessLog(path=path, log_format=lines)
        ),
    )


def application_log() -> ApplicationLogConfig:
    """Returns the form of Envoy's own log lines: JSON as well."""
    return ApplicationLogConfig(log_format=LogFormat(json_format=_LOG_FIELDS))


def tracing(settings: GatewaySettings) -> Tracing | None:
    """Returns how calls are traced; None without a collector.

    The gateway's span is a child of the client's, if its `traceparent` names one, and
    the parent of the service's.
    """
    if settings.otlp_target is None:
        return None
    return Tracing(
        operation="%PATH(NQ:PATH)%",
        # In the place of Envoy's own, which has the query.
        custom_tags=(CustomTag(tag="http.url", value=_URL),),
        spawn_upstream_span=False,
        provider=TypedConfig(
            name="envoy.tracers.opentelemetry",
            typed_config=OpenTelemetryTracer(
                grpc_service=GrpcService(
                    envoy_grpc=EnvoyGrpc(cluster_name=OTLP_CLUSTER), timeout=timedelta(seconds=5)
                ),
                service_name=SERVICE_NAME,
                sampler=_sampler(settings),
            ),
        ),
    )


def _sampler(settings: GatewaySettings) -> TypedConfig:
    # Envoy's own `random_sampling` draws lots from the request id. Since clients choose
    # that freely, it is left out of it, and Envoy would then trace every call.
    share = FractionalPercent(
        numerator=round(settings.trace_sampling_percent * _PARTS_PER_PERCENT),
        denominator=Denominator.MILLION,
    )
    return TypedConfig(
        name="envoy.tracers.opentelemetry.samplers.parent_based",
        typed_config=ParentSampler(
            wrapped_sampler=TypedConfig(
                name="envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
                typed_config=RatioSampler(sampling_percentage=share),
            )
        ),
    )
