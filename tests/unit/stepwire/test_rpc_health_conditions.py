import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from stepwire.rpc import health
from stepwire.rpc.health import HealthServicer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Context:
    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise grpc.aio.AbortError(code, details)


class Gpu:
    """A condition that begins well, once it is there."""

    def __init__(self) -> None:
        self.conditions: dict[str, bool] = {}

    def __call__(self) -> Mapping[str, bool]:
        return self.conditions


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def servicer(gpu: Gpu) -> HealthServicer:
    servicer = HealthServicer()
    servicer.add_conditions(gpu)
    servicer.serve(["a.B"])
    return servicer


def request(name: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def statuses(servicer: HealthServicer) -> dict[str, int]:
    context: Any = Context()
    listed = await servicer.List(health_pb2.HealthListRequest(), context)
    return {name: answer.status for name, answer in listed.statuses.items()}


async def test_a_condition_has_a_status_of_its_own(servicer: HealthServicer, gpu: Gpu) -> None:
    context: Any = Context()
    assert await statuses(servicer) == {"": SERVING, "a.B": SERVING}
    with pytest.raises(grpc.aio.AbortError):
        await servicer.Check(request("gpu"), context)
    gpu.conditions = {"gpu": False}
    assert await statuses(servicer) == {"": SERVING, "a.B": SERVING, "gpu": NOT_SERVING}
    assert (await servicer.Check(request("gpu"), context)).status == NOT_SERVING
    gpu.conditions = {"gpu": True}
    assert (await servicer.Check(request("gpu"), context)).status == SERVING
    servicer.stop()
    assert set((await statuses(servicer)).values()) == {NOT_SERVING}


async def test_a_watch_sees_a_condition_change(
    servicer: HealthServicer, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_LOOK_SECONDS", 0.01)
    context: Any = Context()
    gpu.conditions = {"gpu": True}
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def watch() -> None:
        async for answer in servicer.Watch(request("gpu"), context):
            seen.put_nowait(answer.status)

    watching = asyncio.create_task(watch())
    assert await seen.get() == SERVING
    gpu.conditions = {"gpu": False}
    assert await seen.get() == NOT_SERVING
    servicer.stop()
    await watching
    assert seen.empty()
