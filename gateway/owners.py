"""The health of services behind the gateway, asked for by gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.ports import Status

# Not the kernel's channel: each question would become a trace of its own.
_OPTIONS = (
    # A process that hangs is found out within this time, also in a silent watch.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)

# Between two watches of a process that ends them at once.
_PAUSE_SECONDS = 0.25


def open_health_channel(target: str) -> grpc.aio.Channel:
    """Opens a channel on which a process is asked for its health; the caller closes it."""
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


class GrpcOwner:
    """A process that answers `grpc.health.v1.Health`."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_seconds: float) -> None:
        """Connects with the first question.

        Args:
            channel: Leads to the process.
            timeout_seconds: Time for an answer; later it counts as not serving.
        """
        self._stub: Any = health_pb2_grpc.HealthStub(channel)
        self._timeout_seconds = timeout_seconds

    async def check(self, service: str) -> Status:
        """Returns a service's health now; a process that does not answer is not serving."""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            response = await self._stub.Check(request, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError:
            return Status.NOT_SERVING
        return _status(response)

    async def watch(self, service: str) -> AsyncIterator[Status]:
        """Yields a service's health and its changes; never ends by itself."""
        request = health_pb2.HealthCheckRequest(service=service)
        # The first time a process that is away shall be told at once; later the call
        # waits until it is back.
        wait_for_ready = False
        while True:
            call = self._stub.Watch(request, wait_for_ready=wait_for_ready)
            try:
                async for response in call:
                    yield _status(response)
            except grpc.aio.AioRpcError:
                pass
            finally:
                call.cancel()
            yield Status.NOT_SERVING
            wait_for_ready = True
            await asyncio.sleep(_PAUSE_SECONDS)


def _status(response: health_pb2.HealthCheckResponse) -> Status:
    serving = response.status == health_pb2.HealthCheckResponse.SERVING
    return Status.SERVING if serving else Status.NOT_SERVING
