"""Asking a part, by its own protocol, whether it is ready."""

import asyncio

import grpc.aio
import httpx2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.stack.ports import LOOPBACK

TIMEOUT_SECONDS = 2.0
HTTP_OK = 200


async def grpc_serving(port: int, *, service: str = "") -> bool:
    """Returns whether the gRPC server on `port` says that a service is SERVING.

    By default the server as a whole is asked about.
    """
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def http_ok(port: int, path: str) -> bool:
    """Returns whether the HTTP server on `port` answers `path` with 200."""
    return await _got(port, path) is not None


async def serves_metric(port: int, metric: str) -> bool:
    """Returns whether the metrics on `port` have samples of this name."""
    text = await _got(port, "/metrics")
    return text is not None and f"\n{metric}" in text


async def _got(port: int, path: str) -> str | None:
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        try:
            response = await client.get(f"http://{LOOPBACK}:{port}{path}")
        except httpx2.HTTPError:
            return None
    return response.text if response.status_code == HTTP_OK else None


async def port_open(port: int) -> bool:
    """Returns whether something listens on `port`."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
