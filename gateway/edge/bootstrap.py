"""The whole configuration of the gateway's Envoy."""

from datetime import timedelta
from pathlib import Path

from gateway.edge.clusters import LOOPBACK, clusters
from gateway.edge.filters import http_filters
from gateway.edge.headers import early_header_mutation
from gateway.edge.limits import BUFFER_BYTES, TCP_KEEPALIVE, TO_CLIENTS, http2, overload_manager
from gateway.edge.observability import SERVICE_NAME, access_log, application_log, tracing
from gateway.edge.replies import local_replies
from gateway.edge.routes import route_configuration
from gateway.edge.scrapes import scrapes
from gateway.edge.tls import tls
from gateway.envoy.bootstrap import (
    Admin,
    Bootstrap,
    LayeredRuntime,
    Node,
    RuntimeLayer,
    StaticResources,
)
from gateway.envoy.core import TypedConfig, address
from gateway.envoy.filters import UuidRequestId
from gateway.envoy.listener import (
    CommonHttpOptions,
    EscapedSlashesAction,
    FilterChain,
    Http1ProtocolOptions,
    HttpConnectionManager,
    Listener,
    RequestIdExtension,
    UnderscoresAction,
)
from gateway.settings import GatewaySettings

_RUNTIME = {
    # Otherwise a passed deadline looks like an outage, which clients try again.
    "envoy.reloadable_features.grpc_timeout_returns_deadline_exceeded": True,
}


def bootstrap(settings: GatewaySettings, *, descriptors: Path, secrets: Path) -> Bootstrap:
    """Returns the configuration.

    Args:
        settings: What may differ from one installation to the next.
        descriptors: The descriptor set, under the path at which Envoy finds it.
        secrets: The file that names certificate and key, likewise, where there are any.
    """
    return Bootstrap(
        node=Node(id=SERVICE_NAME, cluster="stepwire"),
        admin=Admin(address=address(LOOPBACK, settings.admin_port)),
        application_log_config=application_log(),
        layered_runtime=LayeredRuntime(
            layers=(RuntimeLayer(name="static", static_layer=_RUNTIME),)
        ),
        overload_manager=overload_manager(settings),
        static_resources=StaticResources(
            listeners=(_listener(settings, descriptors, secrets), *scrapes(settings)),
            clusters=clusters(settings),
        ),
    )


def _listener(settings: GatewaySettings, descriptors: Path, secrets: Path) -> Listener:
    manager = TypedConfig(
        name="envoy.filters.network.http_connection_manager",
        typed_config=_connection_manager(settings, descriptors),
    )
    return Listener(
        name="edge",
        address=address(settings.host, settings.port),
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        # Finds clients that are gone without having said so, and end their watches.
        tcp_keepalive=TCP_KEEPALIVE,
        filter_chains=(
            FilterChain(filters=(manager,), transport_socket=tls(settings, secrets=secrets)),
        ),
    )


def _connection_manager(settings: GatewaySettings, descriptors: Path) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix="edge",
        # Clients are strangers: Envoy drops the x-envoy-* headers with which they
        # could change retries and timeouts.
        use_remote_address=True,
        early_header_mutation_extensions=(early_header_mutation(),),
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension=RequestIdExtension(
            # A client finds its own id unchanged in the services' logs.
            typed_config=UuidRequestId(
                pack_trace_reason=False, use_request_id_for_trace_sampling=False
            )
        ),
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=EscapedSlashesAction.REJECT_REQUEST,
        common_http_protocol_options=CommonHttpOptions(
            idle_timeout=timedelta(hours=1),
            headers_with_underscores_action=UnderscoresAction.REJECT_REQUEST,
        ),
        # Without trailers a stream over HTTP/1.1 that fails looks like one that ends.
        http_protocol_options=Http1ProtocolOptions(enable_trailers=True),
        http2_protocol_options=http2(ping_every=TO_CLIENTS, max_concurrent_streams=1024),
        request_headers_timeout=timedelta(seconds=10),
        # For requests that have no route yet; routes set their own.
        stream_idle_timeout=timedelta(seconds=60),
        tracing=tracing(settings),
        access_log=access_log(settings),
        local_reply_config=local_replies(settings),
        http_filters=http_filters(settings, descriptors),
        route_config=route_configuration(settings),
    )
