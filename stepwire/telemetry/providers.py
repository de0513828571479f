"""Turns telemetry on in a process, and off again with the last spans sent.

Only the standard `OTEL_*` variables decide where spans go and which are kept;
metrics are served to Prometheus. Nothing here happens at import.
"""

import logging
import os
import threading
import time
import uuid
from wsgiref.simple_server import WSGIServer

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_SCHEDULE_DELAY,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import REGISTRY, start_http_server

from stepwire.settings import ProcessSettings
from stepwire.telemetry import names
from stepwire.telemetry.exposition import DurationsCollector
from stepwire.telemetry.logs import setup_logging
from stepwire.version import installed_version

_logger = logging.getLogger(__name__)
_SCHEDULE_DELAY_MILLISECONDS = 500


class MetricsPortError(Exception):
    """The port for metrics cannot be listened on."""


class Telemetry:
    """What `setup` turned on."""

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        metrics_server: WSGIServer | None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._metrics_server = metrics_server

    @property
    def metrics_port(self) -> int:
        """The port on which metrics are served; 0 if they are not."""
        return 0 if self._metrics_server is None else self._metrics_server.server_port

    def shutdown(self, *, timeout_seconds: float) -> None:
        """Sends what is left and stops; blocks for at most the given time.

        Args:
            timeout_seconds: How long the last spans may take to be sent; those that
                are not sent by then are lost.
        """
        end = time.monotonic() + timeout_seconds
        if self._tracer_provider is not None:
            # The provider's own shutdown has no limit of time when the collector
            # does not answer, hence the thread that is left behind then.
            stopper = threading.Thread(target=self._tracer_provider.shutdown, daemon=True)
            stopper.start()
            stopper.join(max(0.0, end - time.monotonic()))
            if stopper.is_alive():
                _logger.warning("the last spans were not sent in time")
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()
        if self._meter_provider is not None:
            remaining = max(0.001, end - time.monotonic())
            self._meter_provider.shutdown(timeout_millis=remaining * 1000)


def setup(service: str, settings: ProcessSettings) -> Telemetry:
    """Turns on logs, and spans and metrics where they are asked for.

    Spans are exported if `OTEL_EXPORTER_OTLP_ENDPOINT` is set; `OTEL_TRACES_SAMPLER`
    says which. Metrics are served if `metrics_port` is not 0. Whatever is off costs
    next to nothing. To be called once per process.

    Args:
        service: The process's name, e.g. "executor"; `OTEL_SERVICE_NAME` overrides it.
        settings: Where to serve metrics, and the log level.

    Raises:
        MetricsPortError: If the metrics port cannot be listened on.
    """
    setup_logging(service, settings.log_level)
    resource = _resource(service)
    metrics_server, meter_provider = None, None
    if settings.metrics_port != 0:
        metrics_server = _serve_metrics(settings)
        meter_provider = MeterProvider([PrometheusMetricReader()], resource=resource)
        REGISTRY.register(DurationsCollector())
        metrics.set_meter_provider(meter_provider)
    tracer_provider = None
    # An empty variable is an unset one, by OpenTelemetry's specification.
    if os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or (
        os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
    ):
        tracer_provider = _tracer_provider(resource)
        trace.set_tracer_provider(tracer_provider)
    return Telemetry(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        metrics_server=metrics_server,
    )


def _resource(service: str) -> Resource:
    ours = Resource.create(
        {
            names.SERVICE_NAME: service,
            names.SERVICE_NAMESPACE: "stepwire",
            names.SERVICE_VERSION: installed_version(),
            names.SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        }
    )
    # Resource.create lets our names win over the environment's; an operator's must.
    return ours.merge(OTELResourceDetector().detect())


def _tracer_provider(resource: Resource) -> TracerProvider:
    # No sampler is given, so that the SDK reads OTEL_TRACES_SAMPLER; its default
    # follows the parent and keeps every trace that begins here.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    delay = None if OTEL_BSP_SCHEDULE_DELAY in os.environ else _SCHEDULE_DELAY_MILLISECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay))
    return provider


def _serve_metrics(settings: ProcessSettings) -> WSGIServer:
    try:
        server, _ = start_http_server(settings.metrics_port, addr=settings.host, registry=REGISTRY)
    except OSError as error:
        raise MetricsPortError(
            f"cannot serve metrics on {settings.host}:{settings.metrics_port} "
            f"({error.strerror}): free the port or set metrics_port"
        ) from error
    return server
