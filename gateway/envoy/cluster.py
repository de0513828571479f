"""Clusters: where calls go, and when they may not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import ClassVar

from gateway.envoy.core import (
    Address,
    Http2ProtocolOptions,
    Percent,
    TcpKeepalive,
    TypedConfig,
)
from gateway.envoy.message import Message

HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class DiscoveryType(Enum):
    """config.cluster.v3.Cluster.DiscoveryType."""

    STATIC = auto()


class LbPolicy(Enum):
    """config.cluster.v3.Cluster.LbPolicy."""

    LEAST_REQUEST = auto()


class DnsLookupFamily(Enum):
    """extensions.clusters.common.dns.v3.DnsLookupFamily."""

    V4_PREFERRED = auto()


@dataclass(frozen=True, kw_only=True)
class DnsCluster(Message):
    """extensions.clusters.dns.v3.DnsCluster: each address of a name is a host."""

    TYPE: ClassVar[str] = "envoy.extensions.clusters.dns.v3.DnsCluster"

    dns_refresh_rate: timedelta
    dns_lookup_family: DnsLookupFamily


@dataclass(frozen=True, kw_only=True)
class Endpoint(Message):
    """config.endpoint.v3.Endpoint."""

    address: Address


@dataclass(frozen=True, kw_only=True)
class LbEndpoint(Message):
    """config.endpoint.v3.LbEndpoint."""

    endpoint: Endpoint


@dataclass(frozen=True, kw_only=True)
class LocalityLbEndpoints(Message):
    """config.endpoint.v3.LocalityLbEndpoints."""

    lb_endpoints: tuple[LbEndpoint, ...]


@dataclass(frozen=True, kw_only=True)
class ClusterLoadAssignment(Message):
    """config.endpoint.v3.ClusterLoadAssignment."""

    cluster_name: str
    endpoints: tuple[LocalityLbEndpoints, ...]


@dataclass(frozen=True, kw_only=True)
class RetryBudget(Message):
    """config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget."""

    budget_percent: Percent
    min_retry_concurrency: int


@dataclass(frozen=True, kw_only=True)
class Thresholds(Message):
    """config.cluster.v3.CircuitBreakers.Thresholds."""

    max_connections: int
    max_pending_requests: int
    max_requests: int
    retry_budget: RetryBudget
    track_remaining: bool


@dataclass(frozen=True, kw_only=True)
class CircuitBreakers(Message):
    """config.cluster.v3.CircuitBreakers."""

    thresholds: tuple[Thresholds, ...]


@dataclass(frozen=True, kw_only=True)
class OutlierDetection(Message):
    """config.cluster.v3.OutlierDetection."""

    split_external_local_origin_errors: bool
    consecutive_local_origin_failure: int
    enforcing_consecutive_5xx: int
    enforcing_consecutive_gateway_failure: int
    enforcing_success_rate: int
    enforcing_local_origin_success_rate: int
    interval: timedelta
    base_ejection_time: timedelta
    max_ejection_percent: int


@dataclass(frozen=True, kw_only=True)
class GrpcHealthCheck(Message):
    """config.core.v3.HealthCheck.GrpcHealthCheck."""

    service_name: str


@dataclass(frozen=True, kw_only=True)
class HttpHealthCheck(Message):
    """config.core.v3.HealthCheck.HttpHealthCheck."""

    path: str


@dataclass(frozen=True, kw_only=True)
class HealthCheck(Message):
    """config.core.v3.HealthCheck; one of the two checks is set."""

    timeout: timedelta
    interval: timedelta
    no_traffic_interval: timedelta
    unhealthy_interval: timedelta
    unhealthy_threshold: int
    healthy_threshold: int
    grpc_health_check: GrpcHealthCheck | None = None
    http_health_check: HttpHealthCheck | None = None


@dataclass(frozen=True, kw_only=True)
class Http1Upstream(Message):
    """config.core.v3.Http1ProtocolOptions, as it is."""


@dataclass(frozen=True, kw_only=True)
class ExplicitHttpConfig(Message):
    """extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig; one is set."""

    http2_protocol_options: Http2ProtocolOptions | None = None
    http_protocol_options: Http1Upstream | None = None


@dataclass(frozen=True, kw_only=True)
class UpstreamCommonOptions(Message):
    """config.core.v3.HttpProtocolOptions, of connections to upstreams."""

    idle_timeout: timedelta


@dataclass(frozen=True, kw_only=True)
class UpstreamHttpOptions(Message):
    """extensions.upstreams.http.v3.HttpProtocolOptions."""

    TYPE: ClassVar[str] = HTTP_PROTOCOL_OPTIONS

    common_http_protocol_options: UpstreamCommonOptions | None = None
    explicit_http_config: ExplicitHttpConfig


@dataclass(frozen=True, kw_only=True)
class UpstreamConnectionOptions(Message):
    """config.cluster.v3.UpstreamConnectionOptions."""

    tcp_keepalive: TcpKeepalive


@dataclass(frozen=True, kw_only=True)
class Cluster(Message):
    """config.cluster.v3.Cluster; one of the two types is set."""

    name: str
    type: DiscoveryType | None = None
    cluster_type: TypedConfig | None = None
    connect_timeout: timedelta
    lb_policy: LbPolicy
    per_connection_buffer_limit_bytes: int
    load_assignment: ClusterLoadAssignment
    typed_extension_protocol_options: Mapping[str, UpstreamHttpOptions]
    upstream_connection_options: UpstreamConnectionOptions
    circuit_breakers: CircuitBreakers
    health_checks: tuple[HealthCheck, ...] = ()
    outlier_detection: OutlierDetection | None = None
