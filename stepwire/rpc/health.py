"""gRPC health of a server and of each of its services."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE_NAME: Final[str] = health.SERVICE_NAME

# How often a watch looks at a condition, which tells nobody when it changes.
_LOOK_SECONDS: Final = 1.0

# Whether all is well, by name.
Conditions = Callable[[], Mapping[str, bool]]

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
        self._conditions: list[Conditions] = []
        self._changed = asyncio.Event()
        self._stopping = False

    def serve(self, services: Iterable[str]) -> None:
        """Marks the named services, and the server as a whole, as SERVING."""
        for service in (*services, ""):
            self._statuses[service] = _Response.SERVING
        self._notify()

    def add_conditions(self, conditions: Conditions) -> None:
        """Answers for what is not a service, too: asked whenever somebody asks for it.

        A condition says nothing of the services: they serve, if perhaps less well.
        """
        self._conditions.append(conditions)

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
        status = self._all().get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _Response(status=status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: _Context
    ) -> health_pb2.HealthListResponse:
        """Returns the status of every service and condition by name."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={name: _Response(status=status) for name, status in self._all().items()}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yields the status of a service now and whenever it changes."""
        del context
        last = None
        while True:
            changed = self._changed
            status = self._all().get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last:
                yield _Response(status=status)
                last = status
            if self._stopping:
                return
            look = None if request.service in self._statuses else _LOOK_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), look)

    def _all(self) -> Mapping[str, int]:
        statuses = dict(self._statuses)
        for conditions in self._conditions:
            for name, well in conditions().items():
                serving = well and not self._stopping
                statuses[name] = _Response.SERVING if serving else _Response.NOT_SERVING
        return statuses

    def _notify(self) -> None:
        # Each change has an event of its own, so that no watcher can miss one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
