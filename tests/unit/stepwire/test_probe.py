"""The command by which containers are asked whether they are ready."""

import asyncio
import sys
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from stepwire.probe import WORKER_SAMPLE
from stepwire.rpc import Server, Service
from stepwire.settings import ServiceSettings
from stepwire.telemetry import names


async def exit_code(*arguments: object) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stepwire.probe", *map(str, arguments)
    )
    return await process.wait()


async def test_a_server_is_ready_when_it_says_so() -> None:
    async with Server("test", ServiceSettings(port=0)) as server:
        assert await exit_code("grpc", server.port) == 1
        server.serve([Service("test.Unary", lambda _: None)])
        assert await exit_code("grpc", server.port) == 0
        assert await exit_code("grpc", server.port, "--service", "test.Unary") == 0
        assert await exit_code("grpc", server.port, "--service", "test.Other") == 1


@pytest.fixture
def metrics() -> Iterator[tuple[CollectorRegistry, int]]:
    registry = CollectorRegistry()
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield registry, server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_worker_is_ready_when_it_has_slots(metrics: tuple[CollectorRegistry, int]) -> None:
    registry, port = metrics
    assert await exit_code("http", port, "/metrics") == 0
    assert await exit_code("worker", port) == 1
    Gauge(WORKER_SAMPLE, "Room for steps.", registry=registry).set(5)
    assert await exit_code("worker", port) == 0


async def test_nobody_there_is_not_ready() -> None:
    assert await exit_code("http", 1, "/healthz") == 1
    assert await exit_code("worker", 1) == 1


def test_the_sample_is_the_metric_of_workers() -> None:
    assert names.WORKER_SLOTS.replace(".", "_") == WORKER_SAMPLE
