"""Buffers, windows and keepalives that listeners and clusters share."""

from datetime import timedelta

from gateway.envoy.bootstrap import (
    DownstreamConnections,
    FixedHeap,
    OverloadAction,
    OverloadManager,
    ThresholdTrigger,
    Trigger,
)
from gateway.envoy.core import Http2ProtocolOptions, KeepaliveSettings, TcpKeepalive, TypedConfig
from gateway.settings import GatewaySettings
from stepwire.settings import MEBIBYTE

BUFFER_BYTES = MEBIBYTE
"""What one connection may hold in memory before its sender is slowed down."""

TCP_KEEPALIVE = TcpKeepalive(keepalive_probes=3, keepalive_time=60, keepalive_interval=10)

_STREAM_WINDOW_BYTES = MEBIBYTE
_CONNECTION_WINDOW_BYTES = 4 * MEBIBYTE

# A gRPC client or server closes a connection on which it is pinged too often while it
# sends nothing, which is what a watch looks like on which nothing happens. Our services
# take a ping every 20 s; clients are foreign, and gRPC's own limit is one in 5 minutes.
TO_SERVICES = timedelta(seconds=60)
TO_CLIENTS = timedelta(seconds=360)
_PING_TIMEOUT = timedelta(seconds=20)

_HEAP_MONITOR = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS_MONITOR = "envoy.resource_monitors.global_downstream_max_connections"


def http2(
    *, ping_every: timedelta, max_concurrent_streams: int | None = None
) -> Http2ProtocolOptions:
    """Returns the HTTP/2 options of a connection, towards clients or services."""
    return Http2ProtocolOptions(
        max_concurrent_streams=max_concurrent_streams,
        initial_stream_window_size=_STREAM_WINDOW_BYTES,
        initial_connection_window_size=_CONNECTION_WINDOW_BYTES,
        connection_keepalive=KeepaliveSettings(
            interval=ping_every,
            timeout=_PING_TIMEOUT,
            # Envoy would also ping before each new stream on a connection idle for a second.
            connection_idle_interval=timedelta(hours=1),
        ),
    )


def overload_manager(settings: GatewaySettings) -> OverloadManager:
    """Returns the limits of the whole process: memory and client connections."""
    return OverloadManager(
        refresh_interval=timedelta(milliseconds=250),
        resource_monitors=(
            TypedConfig(
                name=_HEAP_MONITOR,
                typed_config=FixedHeap(max_heap_size_bytes=settings.max_heap_bytes),
            ),
            TypedConfig(
                name=_CONNECTIONS_MONITOR,
                typed_config=DownstreamConnections(
                    max_active_downstream_connections=settings.max_connections
                ),
            ),
        ),
        actions=(
            _at_heap("envoy.overload_actions.shrink_heap", 0.90),
            _at_heap("envoy.overload_actions.stop_accepting_requests", 0.95),
        ),
    )


def _at_heap(action: str, share: float) -> OverloadAction:
    trigger = Trigger(name=_HEAP_MONITOR, threshold=ThresholdTrigger(value=share))
    return OverloadAction(name=action, triggers=(trigger,))
