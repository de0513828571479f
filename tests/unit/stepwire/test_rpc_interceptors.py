"""Each concern around a call, seen by a client of a real server, in all four shapes."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.rpc import Server, Service, current_call
from stepwire.rpc.interceptors import call_metrics, deadline
from stepwire.rpc.status import from_rpc_error, to_status
from stepwire.settings import ServiceSettings
from stepwire.testing.poll import eventually
from tests.unit.stepwire.durations_read import counts, histograms

NAME = "test.Shapes"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Shapes:
    """A service with one method per shape, all doing what `work` does."""

    def __init__(self, work):
        self.work = work

    async def unary_unary(self, request, context):
        return await self.work(request)

    async def unary_stream(self, request, context):
        if (answer := await self.work(request)) != b"nothing":
            yield answer
            yield b"more"

    async def stream_unary(self, requests, context):
        return await self.work(b"".join([request async for request in requests]))

    async def stream_stream(self, requests, context):
        async for request in requests:
            if (answer := await self.work(request)) != b"nothing":
                yield answer
                yield b"more"

    def add(self, server):
        handlers = {
            shape: getattr(grpc, f"{shape}_rpc_method_handler")(getattr(self, shape))
            for shape in SHAPES
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


@asynccontextmanager
async def serving(work, **settings):
    service = Service(NAME, Shapes(work).add)
    async with (
        Server("test", ServiceSettings(port=0, **settings), [service]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


def start(channel, shape, request=b"x", **options):
    method = getattr(channel, shape)(f"/{NAME}/{shape}")
    return method([request] if shape.startswith("stream") else request, **options)


async def answer(call, shape):
    """Returns the first answer of a call, and waits for the call's end."""
    if shape.endswith("unary"):
        return await call
    answers = [message async for message in call]
    return answers[0] if answers else None


async def call(channel, shape, request=b"x", **options):
    return await answer(start(channel, shape, request, **options), shape)


async def failure(channel, shape, request=b"x", **options):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, shape, request, **options)
    return caught.value


async def echo(request):
    return request


each_shape = pytest.mark.parametrize("shape", SHAPES)


@each_shape
async def test_a_good_call_is_answered(shape):
    async with serving(echo) as channel:
        assert await call(channel, shape, b"hello") == b"hello"


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
async def test_a_stream_without_messages_ends_well(shape):
    async def nothing(request):
        return b"nothing"

    async with serving(nothing) as channel:
        under_way = start(channel, shape)
        assert await answer(under_way, shape) is None
        assert await under_way.code() is grpc.StatusCode.OK


async def test_a_handler_may_write_its_responses_itself():
    async def write(request, context):
        await context.write(request)
        await context.write(b"last")

    def add(server):
        handlers = {"Write": grpc.unary_stream_rpc_method_handler(write)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async with (
        Server("test", ServiceSettings(port=0), [Service(NAME, add)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        answers = channel.unary_stream(f"/{NAME}/Write")(b"first")
        assert [message async for message in answers] == [b"first", b"last"]


# --- identity


@each_shape
async def test_the_callers_ids_are_the_current_calls(shape):
    async def ids(request):
        return f"{current_call().tenant_id} {current_call().request_id}".encode()

    async with serving(ids) as channel:
        metadata = (("x-tenant-id", "acme"), ("x-request-id", "r-1"))
        assert await call(channel, shape, metadata=metadata) == b"acme r-1"


async def test_a_call_without_ids_gets_the_default_tenant_and_an_id_of_its_own():
    seen = []

    async def note(request):
        seen.append(current_call())
        return b""

    async with serving(note) as channel:
        under_way = start(channel, "unary_unary")
        await under_way
        await call(channel, "unary_unary")
        sent_back = dict(await under_way.trailing_metadata())["x-request-id"]
    assert [info.tenant_id for info in seen] == ["default", "default"]
    assert seen[0].request_id == sent_back
    assert seen[0].request_id != seen[1].request_id


async def test_an_overlong_request_id_is_replaced():
    async def request_id(request):
        return current_call().request_id.encode()

    async with serving(request_id) as channel:
        given = "x" * 129
        got = await call(channel, "unary_unary", metadata=(("x-request-id", given),))
    assert 0 < len(got) <= 128


@each_shape
async def test_a_failed_call_carries_the_request_id(shape):
    async def refuse(request):
        raise field_invalid("a", "b")

    async with serving(refuse) as channel:
        error = await failure(channel, shape, metadata=(("x-request-id", "r-1"),))
    assert dict(error.trailing_metadata())["x-request-id"] == "r-1"


# --- error mapping


@each_shape
async def test_an_expected_error_keeps_its_reason(shape):
    async def refuse(request):
        raise StepwireError(
            Reason.TASK_STATE_CONFLICT, "task 1 is FAILED", metadata={"state": "FAILED"}
        )

    async with serving(refuse) as channel:
        error = await failure(channel, shape)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "task 1 is FAILED"
    told = from_rpc_error(error)
    assert (told.reason, told.metadata) == (Reason.TASK_STATE_CONFLICT, {"state": "FAILED"})


@each_shape
async def test_an_unexpected_error_is_logged_whole_and_told_to_nobody(shape, caplog):
    async def fail(request):
        raise ValueError("the password is hunter2")

    async with serving(fail) as channel:
        error = await failure(channel, shape, metadata=(("x-request-id", "r-1"),))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in repr(error)
    assert "r-1" in error.details()
    told = from_rpc_error(error)
    assert (told.reason, told.metadata) == (Reason.INTERNAL, {"request_id": "r-1"})
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "hunter2" in str(record.exc_info[1])


async def test_an_error_after_the_first_response_ends_the_stream():
    async def refuse_the_second(request):
        if request == b"2":
            raise field_invalid("number", "must be 1")
        return request

    async with serving(refuse_the_second) as channel:
        answers = channel.stream_stream(f"/{NAME}/stream_stream")([b"1", b"2"])
        assert [await answers.read(), await answers.read()] == [b"1", b"more"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answers.read()
    assert from_rpc_error(caught.value).reason is Reason.FIELD_INVALID


async def test_a_method_that_the_servicer_leaves_out_is_unimplemented():
    class Unfinished(health_pb2_grpc.HealthServicer):
        pass

    def add(server):
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(Unfinished().Check),
            "Watch": grpc.unary_stream_rpc_method_handler(Unfinished().Watch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async with (
        Server("test", ServiceSettings(port=0), [Service(NAME, add)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await channel.unary_unary(f"/{NAME}/Check")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await channel.unary_stream(f"/{NAME}/Watch")(b"").read()
    assert unary.value.code() is stream.value.code() is grpc.StatusCode.UNIMPLEMENTED


def downstream_error(code, *, ours=None):
    status = None if ours is None else to_status(ours, "", code=code)
    return grpc.aio.AioRpcError(
        code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*(status.trailing_metadata if status else ())),
        status.details if status else "ipv4:10.0.0.7:5432 refused",
    )


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (
            downstream_error(grpc.StatusCode.ABORTED, ours=field_invalid("a", "b")),
            grpc.StatusCode.ABORTED,
            Reason.FIELD_INVALID,
        ),
        (
            downstream_error(grpc.StatusCode.UNAVAILABLE),
            grpc.StatusCode.UNAVAILABLE,
            Reason.DEPENDENCY_UNAVAILABLE,
        ),
        (
            downstream_error(grpc.StatusCode.CANCELLED),
            grpc.StatusCode.UNAVAILABLE,
            Reason.DEPENDENCY_UNAVAILABLE,
        ),
        (
            downstream_error(grpc.StatusCode.DEADLINE_EXCEEDED),
            grpc.StatusCode.DEADLINE_EXCEEDED,
            Reason.DEADLINE_EXCEEDED,
        ),
        (downstream_error(grpc.StatusCode.NOT_FOUND), grpc.StatusCode.INTERNAL, Reason.INTERNAL),
    ],
)
async def test_a_failed_call_to_another_service_is_passed_on(raised, code, reason):
    async def fail(request):
        raise raised

    async with serving(fail) as channel:
        error = await failure(channel, "unary_unary")
    assert (error.code(), from_rpc_error(error).reason) == (code, reason)
    assert "10.0.0.7" not in repr(error)


@each_shape
async def test_a_cancelled_call_cancels_its_handler(shape):
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(wait) as channel:
        under_way = start(channel, shape)
        reading = asyncio.create_task(answer(under_way, shape))
        await began.wait()
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_reader_that_leaves_closes_the_generator_in_the_calls_own_task():
    closed, closed_by = asyncio.Event(), []

    async def endless(request, context):
        handling = asyncio.current_task()
        try:
            while True:
                yield request * 1_000_000  # nobody reads: it comes to wait in the write
        finally:
            closed_by.append(asyncio.current_task() is handling)
            closed.set()

    def add(server):
        handlers = {"Watch": grpc.unary_stream_rpc_method_handler(endless)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async with (
        Server("test", ServiceSettings(port=0), [Service(NAME, add)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = channel.unary_stream(f"/{NAME}/Watch")(b"x")
        assert await watch.read() == b"x" * 1_000_000
        watch.cancel()
        await asyncio.wait_for(closed.wait(), 10)
    assert closed_by == [True]


# --- deadline


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


@pytest.mark.parametrize("shape", ["unary_unary", "stream_unary"])
@pytest.mark.parametrize("options", [{}, {"timeout": 60}])
async def test_a_unary_call_has_the_servers_limit(shape, options):
    async with serving(forever, max_deadline_seconds=0.05) as channel:
        error = await failure(channel, shape, **options)
    assert from_rpc_error(error).reason is Reason.DEADLINE_EXCEEDED


async def test_a_call_without_a_deadline_gets_the_default():
    async def seconds_left(request):
        return str(current_call().deadline - time.monotonic()).encode()

    async with serving(seconds_left, default_deadline_seconds=30) as channel:
        assert 20 < float(await call(channel, "unary_unary")) <= 30
        assert 50 < float(await call(channel, "unary_unary", timeout=60)) < 60


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
async def test_a_server_stream_without_a_deadline_has_none(shape):
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


# --- admission


class Gate:
    """Work that waits until it is let go."""

    def __init__(self):
        self.inside = 0
        self.open = asyncio.Event()

    async def __call__(self, request):
        self.inside += 1
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return b"done"


@pytest.mark.parametrize(
    ("shape", "limit", "other"),
    [
        ("unary_unary", "max_concurrent_calls", "unary_stream"),
        ("stream_unary", "max_concurrent_calls", "stream_stream"),
        ("unary_stream", "max_streams", "unary_unary"),
        ("stream_stream", "max_streams", "stream_unary"),
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


# --- metrics and logs


async def test_calls_are_measured_by_method_and_code(monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(call_metrics, "meter", lambda: provider.get_meter("test"))
    measured = histograms(monkeypatch, call_metrics)
    gate = Gate()

    async def work(request):
        if request == b"bad":
            raise field_invalid("a", "b")
        return await gate(request)

    async with serving(work) as channel:
        waiting = asyncio.create_task(call(channel, "unary_unary"))
        await eventually(lambda: gate.inside == 1)
        during = points(reader)
        await failure(channel, "unary_stream", b"bad")
        gate.open.set()
        await waiting
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await eventually(lambda: active(points(reader)) == {False: 0, True: 0})
    provider.shutdown()
    assert active(during) == {False: 1, True: 0}
    assert counts(
        measured["rpc.server.call.duration"], "rpc.method", "rpc.response.status_code"
    ) == {
        ("test.Shapes/unary_unary", "OK"): 1,
        ("test.Shapes/unary_stream", "INVALID_ARGUMENT"): 1,
    }


def points(reader):
    data = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def active(seen):
    return {
        point.attributes["stepwire.rpc.streams_responses"]: point.value
        for point in seen["stepwire.rpc.server.active_calls"]
    }


async def test_only_failures_of_the_server_are_logged_at_info(caplog):
    async def work(request):
        if request == b"bad":
            raise field_invalid("a", "b")
        if request == b"broken":
            raise ValueError
        return request

    caplog.set_level(logging.DEBUG, logger="stepwire.rpc.access")
    async with serving(work) as channel:
        await call(channel, "unary_unary")
        await failure(channel, "unary_unary", b"bad")
        await failure(channel, "unary_unary", b"broken")
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    lines = [
        (record.levelname, record.code, getattr(record, "reason", None))
        for record in caplog.records
        if record.name == "stepwire.rpc.access"
    ]
    assert lines == [
        ("DEBUG", "OK", None),
        ("DEBUG", "INVALID_ARGUMENT", "FIELD_INVALID"),
        ("INFO", "INTERNAL", "INTERNAL"),
        ("DEBUG", "OK", None),
    ]
