import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.config import main, render, validate
from gateway.mesh import HEALTH
from gateway.settings import GatewaySettings
from gateway.testing import free_ports
from stepwire.testing.poll import eventually


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"otlp_target": "collector.observability.svc:4317", "trace_sampling_percent": 2.5},
        {"cors_origins": ()},
        {"cors_origins": ("https://app.example", "https://admin.example:8443")},
        {"access_log": ""},
        {"access_log": "/tmp/gateway-access.jsonl"},
        {"executor_target": "executor:50051", "vector_target": "[::1]:50053"},
        {
            "host": "0.0.0.0",
            "authentication": "keys",
            "companion_http_target": "companion:50065",
            "max_heap_bytes": 2**28,
            "max_connections": 5,
        },
        {"metrics_port": 9902},
        {"default_deadline_seconds": 0.25, "long_poll_seconds": 1.125},
    ],
)
def test_envoy_takes_the_configuration(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(render(GatewaySettings(**settings)), encoding="utf-8")
    assert validate(path) is None


def test_envoys_complaint_is_told(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(
        render(GatewaySettings()).replace("LEAST_REQUEST", "MOST_REQUEST"), encoding="utf-8"
    )
    complaint = validate(path)
    assert complaint is not None
    assert "MOST_REQUEST" in complaint


def test_command_line_writes_and_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_GATEWAY_PORT", "18081")
    path = tmp_path / "envoy.yaml"
    main(["--output", str(path), "--validate"])
    assert "port_value: 18081" in path.read_text(encoding="utf-8")


async def run_module(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env=os.environ | variables
    )


async def test_command_line_becomes_envoy(tmp_path: Path) -> None:
    port, admin_port = free_ports(2)
    process = await run_module(
        "gateway.config",
        *("--output", str(tmp_path / "envoy.yaml"), "--run"),
        STEPWIRE_GATEWAY_PORT=str(port),
        STEPWIRE_GATEWAY_ADMIN_PORT=str(admin_port),
        STEPWIRE_GATEWAY_ACCESS_LOG="",
    )
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def alive() -> bool:
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/healthz")
                except httpx2.TransportError:
                    return False
                return answer.is_success

            probe: Callable[[], bool | Awaitable[bool]] = alive
            assert await eventually(probe, timeout_seconds=30)
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)
    assert code == 0


async def test_companion_runs_as_a_process() -> None:
    (port,) = free_ports(1)
    process = await run_module("gateway", STEPWIRE_COMPANION_PORT=str(port))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=HEALTH)

            async def serving() -> bool:
                try:
                    response = await stub.Check(request, wait_for_ready=True, timeout=20)
                except grpc.aio.AioRpcError:
                    return False
                return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

            probe: Callable[[], bool | Awaitable[bool]] = serving
            assert await eventually(probe, timeout_seconds=30)
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)
    assert code == 0
