"""One cluster per upstream process: health, limits, connections."""

import ipaddress
from datetime import timedelta

from gateway.edge.limits import BUFFER_BYTES, TCP_KEEPALIVE, TO_SERVICES, http2
from gateway.envoy.cluster import (
    HTTP_PROTOCOL_OPTIONS,
    CircuitBreakers,
    Cluster,
    ClusterLoadAssignment,
    DiscoveryType,
    DnsCluster,
    DnsLookupFamily,
    Endpoint,
    ExplicitHttpConfig,
    GrpcHealthCheck,
    HealthCheck,
    Http1Upstream,
    HttpHealthCheck,
    LbEndpoint,
    LbPolicy,
    LocalityLbEndpoints,
    OutlierDetection,
    RetryBudget,
    Thresholds,
    UpstreamCommonOptions,
    UpstreamConnectionOptions,
    UpstreamHttpOptions,
)
from gateway.envoy.core import Address, Percent, TypedConfig, address
from gateway.mesh import COMPANION_HTTP, HEALTH_NAMES, HEALTH_PATH, ROUTER_HTTP
from gateway.public import Upstream
from gateway.settings import GatewaySettings

OTLP_CLUSTER = "otlp"
ADMIN_CLUSTER = "admin"
LOOPBACK = "127.0.0.1"


# Calls go to all addresses that a name has: instances come and go without a restart here.
_BY_NAME = TypedConfig(
    name="envoy.cluster.dns",
    typed_config=DnsCluster(
        dns_refresh_rate=timedelta(seconds=5),
        # `localhost` is ::1 first on many machines, where the services do not listen.
        dns_lookup_family=DnsLookupFamily.V4_PREFERRED,
    ),
)
# Shorter than the service keeps them, so that it does not close one on which a request is
# on its way.
_HTTP1_IDLE = timedelta(seconds=60)
_HTTP1 = UpstreamHttpOptions(
    common_http_protocol_options=UpstreamCommonOptions(idle_timeout=_HTTP1_IDLE),
    explicit_http_config=ExplicitHttpConfig(http_protocol_options=Http1Upstream()),
)
_HTTP2 = UpstreamHttpOptions(
    explicit_http_config=ExplicitHttpConfig(http2_protocol_options=http2(ping_every=TO_SERVICES))
)


def clusters(settings: GatewaySettings) -> tuple[Cluster, ...]:
    """Returns the clusters of all upstreams, of the collector, and of Envoy's own admin pages.

    The last two only where they are asked for.
    """
    services = tuple(
        _cluster(
            upstream.value,
            settings.target(upstream),
            max_requests=settings.max_upstream_requests,
            check=GrpcHealthCheck(service_name=HEALTH_NAMES[upstream]),
        )
        for upstream in Upstream
    )
    router_http = _cluster(
        ROUTER_HTTP,
        settings.router_http_target,
        max_requests=settings.max_upstream_requests,
        check=HttpHealthCheck(path=HEALTH_PATH),
        options=_HTTP1,
    )
    others = []
    if settings.authentication == "keys":
        others.append(_checks(settings))
    if settings.otlp_target is not None:
        others.append(_cluster(OTLP_CLUSTER, settings.otlp_target, max_requests=64))
    if settings.metrics_port:
        admin = f"{LOOPBACK}:{settings.admin_port}"
        others.append(_cluster(ADMIN_CLUSTER, admin, max_requests=64, options=_HTTP1))
    return (*services, router_http, *others)


def _checks(settings: GatewaySettings) -> Cluster:
    return _cluster(
        COMPANION_HTTP,
        settings.companion_http_target,
        # As many as all services together may have under way.
        max_requests=settings.max_upstream_requests * len(Upstream),
        check=HttpHealthCheck(path=HEALTH_PATH),
        options=_HTTP1,
    )


def _cluster(
    name: str,
    target: str,
    *,
    max_requests: int,
    check: GrpcHealthCheck | HttpHealthCheck | None = None,
    options: UpstreamHttpOptions = _HTTP2,
) -> Cluster:
    """Returns a cluster; one without `check` is used without being checked."""
    where = parse_target(target)
    by_name = not _is_ip(where.socket_address.address)
    return Cluster(
        name=name,
        type=None if by_name else DiscoveryType.STATIC,
        cluster_type=_BY_NAME if by_name else None,
        connect_timeout=timedelta(seconds=1),
        lb_policy=LbPolicy.LEAST_REQUEST,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        load_assignment=ClusterLoadAssignment(
            cluster_name=name,
            endpoints=(
                LocalityLbEndpoints(
                    lb_endpoints=(LbEndpoint(endpoint=Endpoint(address=where)),),
                ),
            ),
        ),
        typed_extension_protocol_options={HTTP_PROTOCOL_OPTIONS: options},
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=TCP_KEEPALIVE),
        # Over HTTP/1.1 each call has a connection to itself.
        circuit_breakers=_circuit_breakers(
            max_requests, max_connections=max_requests if options is _HTTP1 else 256
        ),
        health_checks=() if check is None else (_health_check(check),),
        outlier_detection=None if check is None else _outlier_detection(),
    )


def parse_target(target: str) -> Address:
    """Splits `host:port`; brackets around an IPv6 address are taken off."""
    host, _, port = target.rpartition(":")
    return address(host.strip("[]"), int(port))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _circuit_breakers(max_requests: int, *, max_connections: int) -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=(
            Thresholds(
                max_connections=max_connections,
                max_pending_requests=max_requests,
                max_requests=max_requests,
                # At most a fifth of the calls under way are second tries: a service
                # that is down must not get more calls than one that is up.
                retry_budget=RetryBudget(budget_percent=Percent(value=20), min_retry_concurrency=3),
                track_remaining=True,
            ),
        )
    )


def _health_check(check: GrpcHealthCheck | HttpHealthCheck) -> HealthCheck:
    # Often while unhealthy, so that a service that has just started gets calls at once.
    return HealthCheck(
        timeout=timedelta(seconds=1),
        interval=timedelta(seconds=2),
        no_traffic_interval=timedelta(seconds=2),
        unhealthy_interval=timedelta(milliseconds=250),
        unhealthy_threshold=2,
        healthy_threshold=1,
        grpc_health_check=check if isinstance(check, GrpcHealthCheck) else None,
        http_health_check=check if isinstance(check, HttpHealthCheck) else None,
    )


def _outlier_detection() -> OutlierDetection:
    # Only failures to reach a host count against it. A status speaks of the request, or
    # of something behind the service, and is the same on every host.
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=5,
        enforcing_consecutive_5xx=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=timedelta(seconds=5),
        base_ejection_time=timedelta(seconds=5),
        # The only host of a cluster is never ejected.
        max_ejection_percent=50,
    )
