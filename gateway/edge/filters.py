"""The filters that a call passes, in their order."""

from pathlib import Path

from gateway.edge.authentication import AUTHENTICATION_FILTER, authentication
from gateway.edge.inference_errors import LUA_FILTER, lua
from gateway.edge.routes import CORS_FILTER
from gateway.envoy.core import HeaderMatcher, StringMatcher, TypedConfig
from gateway.envoy.filters import (
    Cors,
    GrpcJsonTranscoder,
    GrpcStats,
    GrpcWeb,
    HealthCheckFilter,
    Router,
    TranscoderPrintOptions,
    TranscoderRequestValidation,
)
from gateway.mesh import HEALTH_PATH, MESH_SERVICES
from gateway.settings import GatewaySettings


def http_filters(settings: GatewaySettings, descriptors: Path) -> tuple[TypedConfig, ...]:
    """Returns the filters, outermost first."""
    return (
        # First: whoever asks whether the gateway lives is asked for nothing else.
        TypedConfig(name="envoy.filters.http.health_check", typed_config=_healthz()),
        TypedConfig(name=CORS_FILTER, typed_config=Cors()),
        TypedConfig(name="envoy.filters.http.grpc_web", typed_config=GrpcWeb()),
        # Outside of the transcoder, whose answers it rewrites.
        TypedConfig(name=LUA_FILTER, typed_config=lua()),
        TypedConfig(
            name="envoy.filters.http.grpc_json_transcoder",
            typed_config=_transcoder(settings, descriptors),
        ),
        *_authentication(settings),
        # After the transcoder and gRPC-Web, so that it sees every call as gRPC.
        TypedConfig(name="envoy.filters.http.grpc_stats", typed_config=_grpc_stats()),
        TypedConfig(
            name="envoy.filters.http.router", typed_config=Router(suppress_envoy_headers=True)
        ),
    )


def _authentication(settings: GatewaySettings) -> tuple[TypedConfig, ...]:
    """After the transcoder, which finds the method, whose route says what a key must allow."""
    if settings.authentication == "off":
        return ()
    return (TypedConfig(name=AUTHENTICATION_FILTER, typed_config=authentication()),)


def _healthz() -> HealthCheckFilter:
    return HealthCheckFilter(
        pass_through_mode=False,
        headers=(HeaderMatcher(name=":path", string_match=StringMatcher(exact=HEALTH_PATH)),),
    )


def _transcoder(settings: GatewaySettings, descriptors: Path) -> GrpcJsonTranscoder:
    return GrpcJsonTranscoder(
        proto_descriptor=str(descriptors),
        services=tuple(service.name for service in MESH_SERVICES if service.json),
        print_options=TranscoderPrintOptions(
            # A count of 0 and an empty list are answers; leaving them out is a riddle.
            always_print_primitive_fields=True,
            # The names of the protos, of the docs and of CEL expressions; requests may
            # use them or lowerCamelCase.
            preserve_proto_field_names=True,
            stream_newline_delimited=True,
            stream_sse_style_delimited=True,
        ),
        request_validation_options=TranscoderRequestValidation(
            # A misspelt filter that is passed over gives a wrong answer.
            reject_unknown_query_parameters=True,
            reject_binding_body_field_collisions=True,
        ),
        convert_grpc_status=True,
        query_param_unescape_plus=True,
        max_request_body_size=settings.max_json_request_bytes,
        max_response_body_size=settings.max_json_response_bytes,
    )


def _grpc_stats() -> GrpcStats:
    return GrpcStats(
        # Only methods that have a route are counted, and only published ones have: clients
        # cannot make metrics out of names of their own.
        stats_for_all_methods=True,
        enable_upstream_stats=True,
        # Service and method become labels of the Prometheus metrics.
        replace_dots_in_grpc_service_name=True,
    )
