"""Channels to other services."""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import grpc
import grpc.aio

from stepwire.rpc.client import CallRecorder, Headers, Method
from stepwire.settings import MEBIBYTE

# UNAVAILABLE means "safe to retry" in every service of ours. The throttle stops the
# retries of a channel whose calls mostly fail, so that they do not add to an outage.
_RETRY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}
# A name that stands for several instances leads to all of them, call by call.
_BALANCING: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}

_Serializer = Callable[[Any], bytes] | None
_Deserializer = Callable[[bytes], Any] | None


def open_channel(
    target: str,
    *,
    max_message_bytes: int = 64 * MEBIBYTE,
    retry_unavailable: bool = True,
    headers: Headers = (),
    credentials: grpc.ChannelCredentials | None = None,
) -> grpc.aio.Channel:
    """Opens a channel that passes on what belongs to the current call.

    That is its deadline, request id, tenant and trace. Calls get a client span and
    are counted. It connects with the first call, and again after a loss.

    Args:
        target: Host and port of the service. Calls go in turn to all addresses of the host.
        max_message_bytes: Largest message sent or received.
        retry_unavailable: Whether calls answered with UNAVAILABLE are made again, up
            to four times in all and within their deadline. For methods that are safe
            to call twice: those that change nothing, or carry a `request_id`.
        headers: Sent with each call, such as the key of a client of the gateway.
        credentials: For TLS; None sends in the clear.

    Returns:
        The channel; the caller closes it.
    """
    options = channel_options(
        max_message_bytes=max_message_bytes, retry_unavailable=retry_unavailable
    )
    if credentials is None:
        return ContextChannel(grpc.aio.insecure_channel(target, options=options), headers)
    return ContextChannel(grpc.aio.secure_channel(target, credentials, options=options), headers)


def channel_options(
    *, max_message_bytes: int, retry_unavailable: bool = True
) -> list[tuple[str, int | str]]:
    """Returns the channel arguments of a channel; see `open_channel`."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # gRPC would wait up to two minutes before it looks for a lost service again.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A proxy for the way outside must not see the calls between services.
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", int(retry_unavailable)),
        ("grpc.service_config", json.dumps(_BALANCING | (_RETRY if retry_unavailable else {}))),
    ]


class ContextChannel(grpc.aio.Channel):
    """A channel around another one, whose methods pass the current call's context on.

    gRPC's client interceptors could do the same, but even one that does nothing costs
    a call another task (some 20 µs) and a stream another generator.
    """

    def __init__(self, inner: grpc.aio.Channel, headers: Headers = ()) -> None:
        self._inner = inner
        self._headers = headers
        self._recorder = CallRecorder()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel; calls under way have `grace` seconds to end."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002
        """Returns the state of the connection."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits until the state is another one."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the channel is connected."""
        await self._inner.channel_ready()

    def unary_unary(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
        _registered_method: bool = False,  # noqa: FBT001, FBT002
    ) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """Returns a method with one request and one response."""
        inner = self._inner.unary_unary(method, request_serializer, response_deserializer)
        return cast("grpc.aio.UnaryUnaryMultiCallable[Any, Any]", self._method(method, inner))

    def unary_stream(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
        _registered_method: bool = False,  # noqa: FBT001, FBT002
    ) -> grpc.aio.UnaryStreamMultiCallable[Any, Any]:
        """Returns a method with one request and many responses."""
        inner = self._inner.unary_stream(method, request_serializer, response_deserializer)
        return cast("grpc.aio.UnaryStreamMultiCallable[Any, Any]", self._method(method, inner))

    def stream_unary(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
        _registered_method: bool = False,  # noqa: FBT001, FBT002
    ) -> grpc.aio.StreamUnaryMultiCallable[Any, Any]:
        """Returns a method with many requests and one response."""
        inner = self._inner.stream_unary(method, request_serializer, response_deserializer)
        return cast("grpc.aio.StreamUnaryMultiCallable[Any, Any]", self._method(method, inner))

    def stream_stream(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
        _registered_method: bool = False,  # noqa: FBT001, FBT002
    ) -> grpc.aio.StreamStreamMultiCallable[Any, Any]:
        """Returns a method with many requests and many responses."""
        inner = self._inner.stream_stream(method, request_serializer, response_deserializer)
        return cast("grpc.aio.StreamStreamMultiCallable[Any, Any]", self._method(method, inner))

    def _method(self, name: str, inner: Any) -> Method:
        return Method(name, inner, self._recorder, self._headers)
