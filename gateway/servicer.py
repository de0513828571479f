"""gRPC's health protocol for the whole mesh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.health import MeshHealth, StoppingError, UnknownServiceError
from gateway.metrics import CompanionMetrics
from gateway.ports import Status
from stepwire.errors import Reason, StepwireError

_WIRE = {
    Status.SERVING: health_pb2.HealthCheckResponse.SERVING,
    Status.NOT_SERVING: health_pb2.HealthCheckResponse.NOT_SERVING,
}


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers `Check`, `List` and `Watch`."""

    def __init__(self, health: MeshHealth, metrics: CompanionMetrics) -> None:
        self._health = health
        self._metrics = metrics

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Returns the health of one service; NOT_FOUND, as the protocol has it, if unknown."""
        try:
            status = await self._health.check(request.service)
        except UnknownServiceError:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        self._metrics.told(request.service, status)
        return health_pb2.HealthCheckResponse(status=_WIRE[status])

    async def List(
        self, request: health_pb2.HealthListRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthListResponse:
        """Returns the health of every service by name."""
        del request, context
        found = await self._health.check_each()
        return health_pb2.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=_WIRE[status])
                for name, status in found.items()
            }
        )

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Streams the health of one service.

        For a service that is unknown it says so and goes on, as the protocol has it.
        """
        del context
        try:
            async with aclosing(self._health.watch(request.service)) as watch:
                async for status in watch:
                    self._metrics.told(request.service, status)
                    yield health_pb2.HealthCheckResponse(status=_WIRE[status])
        except UnknownServiceError:
            yield health_pb2.HealthCheckResponse(
                status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            )
            await asyncio.get_running_loop().create_future()
        except StoppingError as error:
            raise StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the gateway's companion stops",
                metadata={"dependency": "companion"},
            ) from error
