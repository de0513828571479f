"""gRPC health of a server and of each of its services."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE_NAME: Final[str] = health.SERVICE_NAME

_Response = health_pb2.HealthCheckResponse
_Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Health that begins as NOT_SERVING and ends its watches when the server stops.

    grpcio-health-checking's own servicer begins as SERVING, leaves `List`
    unimplemented, and keeps watches open, so that a server with one watcher would
    always use up its whole time to drain.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {"": _Response.NOT_SERVING}
        self._changed = asyncio.Event()
        self._stopping = False

    def serve(self, services: Iterable[str]) -> None:
        """Marks the named services, and the server as a whole, as SERVING."""
        for service in (*services, ""):
            self._statuses[service] = _Response.SERVING
        self._notify()

    def stop(self) -> None:
        """Marks everything as NOT_SERVING for good, and ends the watches."""
        self._stopping = True
        for service in self._statuses:
            self._statuses[service] = _Response.NOT_SERVING
        self._notify()

    async def Check(  # noqa: N802  (the proto's name)
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """Returns the status of one service, or of the server for ""."""
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _Response(status=self._statuses[request.service])

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: _Context
    ) -> health_pb2.HealthListResponse:
        """Returns the status of every service by name."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={name: _Response(status=status) for name, status in self._statuses.items()}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yields the status of a service now and whenever it changes."""
        del context
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last:
                yield _Response(status=status)
                last = status
            if self._stopping:
                return
            await changed.wait()

    def _notify(self) -> None:
        # Each change has an event of its own, so that no watcher can miss one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
