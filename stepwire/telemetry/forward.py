"""Passing spans on to another OTLP endpoint."""

import asyncio
import logging
from urllib.parse import urlsplit

import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

_logger = logging.getLogger(__name__)
_QUEUE_LIMIT = 256
_TIMEOUT_SECONDS = 10.0


class Forwarder:
    """Sends requests on, in the background: a slow endpoint never delays the sender.

    What does not fit the queue, or is refused, is dropped, counted and logged.
    """

    def __init__(self, endpoint: str) -> None:
        """Opens a channel.

        Args:
            endpoint: `http://host:port`, `https://host:port` or `host:port`.
        """
        url = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        self._channel = (
            grpc.aio.secure_channel(url.netloc, grpc.ssl_channel_credentials())
            if url.scheme == "https"
            else grpc.aio.insecure_channel(url.netloc)
        )
        self._stub = TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._endpoint = endpoint
        self._queue: asyncio.Queue[ExportTraceServiceRequest] = asyncio.Queue(_QUEUE_LIMIT)
        self._dropped = 0
        self._task = asyncio.create_task(self._run())

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Takes a request; returns at once."""
        try:
            self._queue.put_nowait(request)
        except asyncio.QueueFull:
            self._drop("its queue is full")

    async def close(self, *, timeout_seconds: float) -> None:
        """Sends what waits, for at most the given time, and closes the channel."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._queue.join()
        except TimeoutError:
            _logger.warning("%d requests were not forwarded in time", self._queue.qsize())
        self._task.cancel()
        await self._channel.close()

    async def _run(self) -> None:
        while True:
            request = await self._queue.get()
            try:
                await self._stub.Export(request, timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                self._drop(f"{error.code().name}: {error.details()}")
            finally:
                self._queue.task_done()

    def _drop(self, why: str) -> None:
        self._dropped += 1
        # Each power of two, so that a dead endpoint does not fill the log.
        if self._dropped & (self._dropped - 1) == 0:
            _logger.warning(
                "spans not forwarded to %s (%s); %d requests dropped so far",
                self._endpoint,
                why,
                self._dropped,
            )
