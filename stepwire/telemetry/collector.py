"""The stack's own trace collector: `python -m stepwire.telemetry.collector`.

Receives spans by OTLP over gRPC, keeps them in files for `stepwire trace`, and passes
them on to another OTLP endpoint if one is set. It is no service of the mesh: it has no
interceptors, since tracing the receipt of traces would never end.
"""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any, Self

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from stepwire.environment import read_settings
from stepwire.rpc.health import HealthServicer
from stepwire.settings import MEBIBYTE, ProcessSettings
from stepwire.telemetry.forward import Forwarder
from stepwire.telemetry.logs import setup_logging
from stepwire.telemetry.otlp import spans_of
from stepwire.telemetry.span_store import SpanStore

_logger = logging.getLogger(__name__)
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class CollectorSettings(ProcessSettings):
    """Settings of the collector."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_COLLECTOR_", frozen=True)

    port: int = Field(
        default=43170, ge=0, le=65535, description="Port that receives OTLP over gRPC; 0 for any."
    )
    folder: Path = Field(
        default=Path(".stepwire/spans"), description="Folder in which spans are kept."
    )
    max_file_bytes: int = Field(
        default=16 * MEBIBYTE, ge=1024, description="Size at which a new file of spans is begun."
    )
    max_total_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=1024,
        description="Size of all files of spans together; beyond it the oldest are removed.",
    )
    forward_endpoint: str = Field(
        default="",
        description="OTLP endpoint (gRPC) that gets the same spans, e.g. http://127.0.0.1:4317; "
        "empty for none.",
    )


class TraceReceiver(TraceServiceServicer):
    """Writes what it receives, then answers."""

    def __init__(self, store: SpanStore, forwarder: Forwarder | None) -> None:
        self._store = store
        self._forwarder = forwarder

    async def Export(  # noqa: N802  (the proto's name)
        self, request: ExportTraceServiceRequest, context: Any
    ) -> ExportTraceServiceResponse:
        """Takes a batch of spans."""
        del context
        self._store.append(spans_of(request))
        if self._forwarder is not None:
            self._forwarder.send(request)
        return ExportTraceServiceResponse()


class Collector:
    """The collector's server, running within its `async with` block."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._store = SpanStore(
            settings.folder,
            max_file_bytes=settings.max_file_bytes,
            max_total_bytes=settings.max_total_bytes,
        )
        self._health = HealthServicer()
        self._forwarder: Forwarder | None = None
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.port = 0

    async def __aenter__(self) -> Self:
        settings = self._settings
        if settings.forward_endpoint:
            self._forwarder = Forwarder(settings.forward_endpoint)
        receiver = TraceReceiver(self._store, self._forwarder)
        add_TraceServiceServicer_to_server(receiver, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")
        await self._server.start()
        self._health.serve([TRACE_SERVICE])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._health.stop()
        await self._server.stop(self._settings.drain_seconds)
        if self._forwarder is not None:
            await self._forwarder.close(timeout_seconds=self._settings.drain_seconds)
        self._store.close()


async def run(settings: CollectorSettings) -> None:
    """Collects until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Collector(settings) as collector:
        _logger.info("collecting spans", extra={"port": collector.port})
        await stop.wait()


def main() -> None:
    """Reads the settings and runs the collector."""
    settings = read_settings(CollectorSettings)
    setup_logging("collector", settings.log_level)
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
