"""A gRPC server with health, reflection and all concerns around calls."""

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from stepwire.lifecycle import StartError
from stepwire.rpc.health import SERVICE_NAME as HEALTH_SERVICE_NAME
from stepwire.rpc.health import HealthServicer
from stepwire.rpc.interceptors.order import arounds
from stepwire.rpc.method_table import MethodTable
from stepwire.rpc.service import Service
from stepwire.settings import ServiceSettings

_logger = logging.getLogger(__name__)

# Longest time for calls under way when an `async with Server(...)` block ends.
_CLOSE_GRACE_SECONDS = 1.0
# gRPC's largest number, which it takes for no limit of time.
_NEVER = 2**31 - 1


class Server:
    """A server that listens within its `async with` block.

    Given services, it serves them at once. Without, it answers health with
    NOT_SERVING until `serve` gives them, so that a slow start can be told from a
    dead process.
    """

    def __init__(
        self, name: str, settings: ServiceSettings, services: Sequence[Service] | None = None
    ) -> None:
        """Binds nothing yet.

        Args:
            name: The process's name in log lines and messages, e.g. "router".
            settings: Where to listen, and the limits.
            services: What to serve from the start; None to give it later.
        """
        self._name = name
        self._settings = settings
        self._services: tuple[Service, ...] = ()
        self._initial = services
        self._health = HealthServicer()
        self._arounds = arounds(settings)
        self._methods = MethodTable(self._arounds)
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port on which the server listens; 0 before it does."""
        return self._port

    @property
    def address(self) -> str:
        """Host and port as a channel's target."""
        return f"{self._settings.host}:{self._port}"

    async def __aenter__(self) -> Self:
        server = grpc.aio.server(handlers=(self._methods,), options=server_options(self._settings))
        self._methods.add(lambda to: health_pb2_grpc.add_HealthServicer_to_server(self._health, to))
        wanted = f"{self._settings.host}:{self._settings.port}"
        try:
            self._port = server.add_insecure_port(wanted)
        except RuntimeError as error:
            prefix = self._settings.model_config.get("env_prefix", "")
            raise StartError(
                f"{self._name} cannot listen on {wanted}: free the port, or set {prefix}PORT "
                f"(and {prefix}HOST) to another"
            ) from error
        await server.start()
        self._server = server
        if self._initial is not None:
            self.serve(self._initial)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.drain(grace_seconds=_CLOSE_GRACE_SECONDS)

    def serve(self, services: Sequence[Service]) -> None:
        """Adds the services and answers health with SERVING. To be called once."""
        self._services = tuple(services)
        for service in services:
            self._methods.add(service.add)
        self._methods.complete()
        names = [service.name for service in services]
        if self._settings.reflection:
            described = (*names, HEALTH_SERVICE_NAME, reflection.SERVICE_NAME)
            servicer = reflection.aio.ReflectionServicer(described)
            self._methods.add(
                lambda to: reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, to)
            )
        for service in services:
            if service.attach is not None:
                service.attach(self._arounds)
            if service.conditions is not None:
                self._health.add_conditions(service.conditions)
        self._health.serve(names)

    async def drain(self, *, grace_seconds: float, linger_seconds: float = 0) -> None:
        """Stops: health first, then the services' own drain, then the calls.

        New calls are refused from then on. Those under way may end; what is left after
        the grace is cancelled. Does nothing the second time.

        Args:
            grace_seconds: How long calls under way may go on.
            linger_seconds: For how long new calls are taken behind a health of
                NOT_SERVING. One that arrives while the server closes is lost.
        """
        server, self._server = self._server, None
        if server is None:
            return
        self._health.stop()
        for service in self._services:
            if service.retire is not None:
                service.retire()
        await asyncio.sleep(linger_seconds)
        for service in self._services:
            if service.drain is not None:
                try:
                    await service.drain()
                except Exception:
                    _logger.exception("draining %s failed", service.name)
        await server.stop(grace_seconds)


def server_options(settings: ServiceSettings) -> list[tuple[str, int]]:
    """Returns the channel arguments of a server."""
    oldest_milliseconds = int(settings.max_connection_seconds * 1000) or _NEVER
    return [
        # Two processes on one port would share its calls by chance; the second must fail.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A watch on which nothing happens: our clients and Envoy ping every 60 s, with jitter,
        # and gRPC's own limit of one ping in 5 minutes would close their connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Finds a peer that is gone without having said so. More often than every 5 minutes,
        # a client that sends nothing would close the connection.
        ("grpc.keepalive_time_ms", 360_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients ask for a service's addresses again when they lose a connection. Its calls,
        # watches among them, go on to their end.
        ("grpc.max_connection_age_ms", oldest_milliseconds),
    ]
