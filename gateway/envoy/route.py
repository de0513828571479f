"""Routes: which call goes where, for how long, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from gateway.envoy.core import (
    DataSource,
    HeaderMatcher,
    HeaderValueOption,
    TypedConfig,
)
from gateway.envoy.message import Message


class ClusterNotFound(Enum):
    """config.route.v3.RouteAction.ClusterNotFoundResponseCode."""

    NOT_FOUND = auto()


@dataclass(frozen=True, kw_only=True)
class RouteMatch(Message):
    """config.route.v3.RouteMatch; one of `prefix` and `path` is set."""

    prefix: str | None = None
    path: str | None = None
    headers: tuple[HeaderMatcher, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MaxStreamDuration(Message):
    """config.route.v3.RouteAction.MaxStreamDuration.

    `max_stream_duration` holds for calls without the header `grpc-timeout`,
    `grpc_timeout_header_max` caps the header of the others; 0 means no limit.
    """

    max_stream_duration: timedelta
    grpc_timeout_header_max: timedelta


@dataclass(frozen=True, kw_only=True)
class RetryBackOff(Message):
    """config.route.v3.RetryPolicy.RetryBackOff."""

    base_interval: timedelta
    max_interval: timedelta


@dataclass(frozen=True, kw_only=True)
class RetryPolicy(Message):
    """config.route.v3.RetryPolicy."""

    retry_on: str
    num_retries: int
    retry_host_predicate: tuple[TypedConfig, ...]
    host_selection_retry_max_attempts: int
    retry_back_off: RetryBackOff


@dataclass(frozen=True, kw_only=True)
class RouteAction(Message):
    """config.route.v3.RouteAction; one of `cluster` and `cluster_header` is set."""

    cluster: str | None = None
    cluster_header: str | None = None
    cluster_not_found_response_code: ClusterNotFound | None = None
    timeout: timedelta | None = None
    idle_timeout: timedelta | None = None
    max_stream_duration: MaxStreamDuration | None = None
    retry_policy: RetryPolicy | None = None


@dataclass(frozen=True, kw_only=True)
class DirectResponse(Message):
    """config.route.v3.DirectResponseAction."""

    status: int
    body: DataSource | None = None


@dataclass(frozen=True, kw_only=True)
class Route(Message):
    """config.route.v3.Route; one of the two actions is set."""

    name: str
    match: RouteMatch
    route: RouteAction | None = None
    direct_response: DirectResponse | None = None
    request_headers_to_add: tuple[HeaderValueOption, ...] = ()
    response_headers_to_add: tuple[HeaderValueOption, ...] = ()
    typed_per_filter_config: Mapping[str, Message] | None = None


@dataclass(frozen=True, kw_only=True)
class VirtualHost(Message):
    """config.route.v3.VirtualHost."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    typed_per_filter_config: Mapping[str, Message] | None = None


@dataclass(frozen=True, kw_only=True)
class RouteConfiguration(Message):
    """config.route.v3.RouteConfiguration."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    request_headers_to_remove: tuple[str, ...] = ()
