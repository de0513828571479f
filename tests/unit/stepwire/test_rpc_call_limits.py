"""How long calls may take, and how many there may be, in all four shapes."""

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.errors import Reason, field_invalid
from stepwire.rpc import current_call
from stepwire.rpc.interceptors import deadline
from stepwire.rpc.status import from_rpc_error
from stepwire.testing.poll import eventually
from tests.unit.stepwire.shapes_service import (
    Gate,
    call,
    each_shape,
    failure,
    serving,
)


async def forever(request):
    await asyncio.Event().wait()


@each_shape
async def test_a_call_ends_before_the_callers_deadline_with_our_reason(shape, monkeypatch):
    # On a busy machine the usual margin is not always enough for the answer to win.
    monkeypatch.setattr(deadline, "_ANSWER_SECONDS", 60)
    monkeypatch.setattr(deadline, "_ANSWER_SHARE", 0.99)
    async with serving(forever) as channel:
        error = await failure(channel, shape, timeout=10)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert from_rpc_error(error).reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("options", [{}, {"timeout": 60}])
async def test_a_unary_call_has_the_servers_limit(options):
    async with serving(forever, max_deadline_seconds=0.05) as channel:
        error = await failure(channel, "unary_unary", **options)
    assert from_rpc_error(error).reason is Reason.DEADLINE_EXCEEDED


async def test_a_call_without_a_deadline_gets_the_default():
    async def seconds_left(request):
        return str(current_call().deadline - time.monotonic()).encode()

    async with serving(seconds_left, default_deadline_seconds=30) as channel:
        assert 20 < float(await call(channel, "unary_unary")) <= 30
        assert 50 < float(await call(channel, "unary_unary", timeout=60)) < 60


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream", "stream_unary"])
async def test_a_stream_without_a_deadline_has_none(shape):
    async def say_deadline(request):
        return str(current_call().deadline).encode()

    limits = {"default_deadline_seconds": 0.01, "max_deadline_seconds": 0.01}
    async with serving(say_deadline, **limits) as channel:
        assert await call(channel, shape) == b"None"


async def test_a_timeout_of_the_handlers_own_is_not_taken_for_the_deadline(caplog):
    async def time_out(request):
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    async with serving(time_out) as channel:
        error = await failure(channel, "unary_unary")
    assert from_rpc_error(error).reason is Reason.INTERNAL


@pytest.mark.parametrize(
    ("shape", "limit", "other"),
    [
        ("unary_unary", "max_concurrent_calls", "unary_stream"),
        ("stream_unary", "max_streams", "unary_unary"),
        ("unary_stream", "max_streams", "unary_unary"),
        ("stream_stream", "max_streams", "unary_unary"),
    ],
)
async def test_a_call_over_the_limit_is_refused_and_others_are_not(shape, limit, other):
    gate = Gate()
    async with serving(gate, **{limit: 2}) as channel:
        waiting = [asyncio.create_task(call(channel, shape)) for _ in range(2)]
        await eventually(lambda: gate.inside == 2)
        error = await failure(channel, shape)
        waiting.append(asyncio.create_task(call(channel, other)))
        await eventually(lambda: gate.inside == 3)
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        gate.open.set()
        assert await asyncio.gather(*waiting) == [b"done"] * 3
        assert await call(channel, shape) == b"done"
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = from_rpc_error(error)
    assert (told.reason, told.metadata) == (Reason.OVERLOADED, {"limit": limit})
    assert told.retry_after.total_seconds() > 0
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_place_is_given_back_when_a_call_fails():
    async def refuse(request):
        raise field_invalid("a", "b")

    async with serving(refuse, max_concurrent_calls=1) as channel:
        for _ in range(3):
            assert from_rpc_error(await failure(channel, "unary_unary")).faults
