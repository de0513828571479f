"""Listeners and the HTTP connection manager."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import ClassVar

from gateway.envoy.core import Address, Http2ProtocolOptions, TcpKeepalive, TypedConfig
from gateway.envoy.message import Message
from gateway.envoy.observe import AccessLog, LocalReplyConfig, Tracing
from gateway.envoy.route import RouteConfiguration


class UnderscoresAction(Enum):
    """config.core.v3.HttpProtocolOptions.HeadersWithUnderscoresAction."""

    REJECT_REQUEST = auto()


class EscapedSlashesAction(Enum):
    """…HttpConnectionManager.PathWithEscapedSlashesAction."""

    REJECT_REQUEST = auto()


@dataclass(frozen=True, kw_only=True)
class CommonHttpOptions(Message):
    """config.core.v3.HttpProtocolOptions."""

    idle_timeout: timedelta
    headers_with_underscores_action: UnderscoresAction


@dataclass(frozen=True, kw_only=True)
class Http1ProtocolOptions(Message):
    """config.core.v3.Http1ProtocolOptions."""

    enable_trailers: bool


@dataclass(frozen=True, kw_only=True)
class RequestIdExtension(Message):
    """…http_connection_manager.v3.RequestIDExtension."""

    typed_config: Message


@dataclass(frozen=True, kw_only=True)
class HttpConnectionManager(Message):
    """extensions.filters.network.http_connection_manager.v3.HttpConnectionManager."""

    TYPE: ClassVar[str] = (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    )

    stat_prefix: str
    use_remote_address: bool
    early_header_mutation_extensions: tuple[TypedConfig, ...]
    preserve_external_request_id: bool
    always_set_request_id_in_response: bool
    request_id_extension: RequestIdExtension
    normalize_path: bool
    merge_slashes: bool
    path_with_escaped_slashes_action: EscapedSlashesAction
    common_http_protocol_options: CommonHttpOptions
    http_protocol_options: Http1ProtocolOptions
    http2_protocol_options: Http2ProtocolOptions
    request_headers_timeout: timedelta
    stream_idle_timeout: timedelta
    tracing: Tracing | None = None
    access_log: tuple[AccessLog, ...] = ()
    local_reply_config: LocalReplyConfig
    http_filters: tuple[TypedConfig, ...]
    route_config: RouteConfiguration


@dataclass(frozen=True, kw_only=True)
class InnerConnectionManager(Message):
    """The same message, of a listener that clients do not see."""

    TYPE: ClassVar[str] = HttpConnectionManager.TYPE

    stat_prefix: str
    http_filters: tuple[TypedConfig, ...]
    route_config: RouteConfiguration


@dataclass(frozen=True, kw_only=True)
class FilterChain(Message):
    """config.listener.v3.FilterChain."""

    filters: tuple[TypedConfig, ...]
    transport_socket: TypedConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Listener(Message):
    """config.listener.v3.Listener."""

    name: str
    address: Address
    per_connection_buffer_limit_bytes: int
    tcp_keepalive: TcpKeepalive
    filter_chains: tuple[FilterChain, ...]
