"""What a call knows and tells of itself, seen by a client of a real server, in all four shapes."""

import asyncio
import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc

from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.rpc import Server, Service, current_call
from stepwire.rpc.interceptors import chain
from stepwire.rpc.status import from_rpc_error, to_status
from stepwire.settings import ServiceSettings
from tests.unit.stepwire.shapes_service import (
    NAME,
    UNREADABLE,
    answer,
    call,
    each_shape,
    echo,
    failure,
    serving,
    start,
)


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


def refusing():
    """Serve a method that refuses its caller at the first message."""

    async def refuse(requests, context):
        async for _ in requests:
            raise field_invalid("x", "is wrong")

    def add(server):
        handlers = {"Refuse": grpc.stream_unary_rpc_method_handler(refuse)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    return Server("test", ServiceSettings(port=0), [Service(NAME, add)])


async def test_who_is_refused_amid_a_stream_is_heard_out_and_learns_why(monkeypatch):
    monkeypatch.setattr(chain, "HEAR_OUT_SECONDS", 60.0)
    async with refusing() as server, grpc.aio.insecure_channel(server.address) as channel:
        sending = channel.stream_unary(f"/{NAME}/Refuse")()
        await sending.write(b"wrong")
        status = asyncio.create_task(sending.code())
        await asyncio.wait([status], timeout=0.1)
        assert not status.done()
        await sending.write(b"more")
        await sending.done_writing()
        assert await status is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("messages", [0, 3])
async def test_who_waits_for_answers_is_refused_once_silent(messages, monkeypatch):
    """Before the handler has its stream: what it sends is read until it sends no more."""
    monkeypatch.setattr(chain, "HEAR_OUT_SECONDS", 60.0)
    monkeypatch.setattr(chain, "FALL_SILENT_SECONDS", 0.5)
    async with serving(lambda _: None) as channel:
        asking = channel.stream_stream(f"/{NAME}/stream_stream")(
            metadata=(("x-tenant-id", "x" * 129),)
        )
        for _ in range(messages):
            await asking.write(b"x")
        assert await asking.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "x-tenant-id" in await asking.details()


async def test_who_never_stops_sending_is_refused_all_the_same(monkeypatch):
    monkeypatch.setattr(chain, "HEAR_OUT_SECONDS", 0.01)
    async with refusing() as server, grpc.aio.insecure_channel(server.address) as channel:
        sending = channel.stream_unary(f"/{NAME}/Refuse")()
        await sending.write(b"wrong")
        assert await sending.code() is grpc.StatusCode.INVALID_ARGUMENT


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


@each_shape
async def test_an_overlong_tenant_is_refused(shape):
    async with serving(lambda _: None) as channel:
        metadata = (("x-tenant-id", "x" * 129),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, shape, metadata=metadata)
    error = from_rpc_error(caught.value)
    assert (error.reason, error.metadata) == (Reason.FIELD_INVALID, {"field": "x-tenant-id"})


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
async def test_a_message_that_cannot_be_read_is_the_callers_fault(shape, caplog):
    async with serving(echo) as channel:
        error = await failure(channel, shape, UNREADABLE)
    told = from_rpc_error(error)
    assert (error.code(), told.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.FIELD_INVALID,
    )
    assert [(fault.field, "bad bytes" in fault.description) for fault in told.faults] == [
        ("request", True)
    ]
    assert not [record for record in caplog.records if record.exc_info]


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


async def test_a_handler_that_aborts_has_its_way(caplog):
    async def abort(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here")

    def add(server):
        handlers = {"Abort": grpc.unary_unary_rpc_method_handler(abort)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    caplog.set_level(logging.DEBUG, logger="stepwire.rpc")
    async with (
        Server("test", ServiceSettings(port=0), [Service(NAME, add)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{NAME}/Abort")(b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "not here")
    assert [(record.message, record.code) for record in caplog.records] == [
        ("call ended", "NOT_FOUND")
    ]


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
