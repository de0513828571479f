"""Streams whose messages are calls: their order, their errors, and how they end."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import status_pb2

from stepwire.errors import Reason, field_invalid
from stepwire.rpc import Server, Service, current_call
from stepwire.rpc.call_streams import CallStreams
from stepwire.rpc.interceptors import call_metrics
from stepwire.rpc.status import from_proto, from_rpc_error
from stepwire.settings import ServiceSettings
from stepwire.testing.poll import eventually
from tests.unit.stepwire.durations_read import counts, histograms

NAME = "test.Streams"
UNARY = f"{NAME}/Ask"


class Asked:
    """Work that is let go message by message: `text` names it, "free" waits for nobody."""

    def __init__(self):
        self.begun = []
        self.ended = []
        self.cancelled = []
        self._gates = {}

    def open(self, text):
        self._gate(text).set()

    async def __call__(self, message):
        text = message["text"]
        self.begun.append(text)
        try:
            if text != "free":
                await self._gate(text).wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        self.ended.append(text)
        return told(found=text)

    def _gate(self, text):
        return self._gates.setdefault(text, asyncio.Event())


class Blaring:
    """Work whose answers fill a stream's window soon."""

    def __init__(self):
        self.begun = 0

    async def __call__(self, message):
        self.begun += 1
        return told(found="x" * 100_000)


def told(**fields):
    message = Struct()
    message.update(fields)
    return message


def written(message):
    return message if isinstance(message, bytes) else message.SerializeToString()


def failed(asked, status):
    return told(status=status.SerializeToString().hex(), asked=asked["text"])


def error_of(answer):
    return from_proto(status_pb2.Status.FromString(bytes.fromhex(answer["status"])))


def timeout_of(message):
    return dict(message).get("timeout")


@asynccontextmanager
async def serving(work, *, at_once=8, **settings):
    streams = CallStreams(UNARY, work, failed, timeout_seconds=timeout_of, at_once=at_once)
    handler = grpc.stream_stream_rpc_method_handler(
        streams.serve, Struct.FromString, Struct.SerializeToString
    )

    def add(server):
        generic = grpc.method_handlers_generic_handler(NAME, {"Stream": handler})
        server.add_generic_rpc_handlers((generic,))

    service = Service(NAME, add, drain=streams.drain, attach=streams.attach)
    async with (
        Server("test", ServiceSettings(port=0, **settings), [service]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel.stream_stream(f"/{NAME}/Stream", written, Struct.FromString), server


async def send(call, *texts, **fields):
    for text in texts:
        await call.write(told(text=text, **fields))


async def rest_of(call):
    return [answer async for answer in call]


async def test_answers_come_in_the_order_of_the_messages_whichever_ends_first():
    asked = Asked()
    async with serving(asked) as (stream, _):
        call = stream()
        await send(call, "slow", "fast", "free")
        await eventually(lambda: len(asked.begun) == 3)
        asked.open("fast")
        await eventually(lambda: asked.ended == ["free", "fast"])
        asked.open("slow")
        await call.done_writing()
        assert [answer["found"] for answer in await rest_of(call)] == ["slow", "fast", "free"]
        assert await call.code() is grpc.StatusCode.OK


async def test_so_many_are_under_way_at_once_and_further_ones_wait_unread():
    asked = Asked()
    async with serving(asked, at_once=2) as (stream, _):
        call = stream()
        await send(call, "a", "b", "c")
        await eventually(lambda: asked.begun == ["a", "b"])
        asked.open("b")  # which is done, but not answered, so that its place is not free
        await eventually(lambda: asked.ended == ["b"])
        assert asked.begun == ["a", "b"]
        asked.open("a")
        await eventually(lambda: asked.begun == ["a", "b", "c"])
        asked.open("c")
        await call.done_writing()
        assert [answer["found"] for answer in await rest_of(call)] == ["a", "b", "c"]


async def test_one_that_fails_is_answered_with_its_error_and_the_stream_goes_on(caplog):
    async def work(message):
        if message["text"] == "bad":
            raise field_invalid("text", "must be good")
        if message["text"] == "broken":
            raise RuntimeError("a secret")
        return told(found=message["text"])

    async with serving(work) as (stream, _):
        call = stream(metadata=(("x-request-id", "mine"),))
        await send(call, "bad", "broken", "good")
        await call.done_writing()
        bad, broken, good = await rest_of(call)
    assert (bad["asked"], error_of(bad).reason) == ("bad", Reason.FIELD_INVALID)
    assert [fault.field for fault in error_of(bad).faults] == ["text"]
    assert error_of(broken).reason is Reason.INTERNAL
    assert error_of(broken).metadata == {"request_id": "mine"}
    assert "secret" not in error_of(broken).message
    assert good["found"] == "good"
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [
        ("a secret",)
    ]


async def test_messages_share_the_ids_of_their_stream():
    async def work(message):
        call = current_call()
        return told(ids=f"{call.request_id} {call.tenant_id}")

    async with serving(work) as (stream, _):
        call = stream(metadata=(("x-request-id", "mine"), ("x-tenant-id", "theirs")))
        await send(call, "a", "b")
        await call.done_writing()
        assert [answer["ids"] for answer in await rest_of(call)] == ["mine theirs"] * 2
        call = stream()
        await send(call, "a", "b")
        await call.done_writing()
        one, other = [answer["ids"] for answer in await rest_of(call)]
        assert one == other
        assert dict(await call.trailing_metadata())["x-request-id"] == one.split()[0]


async def test_a_message_that_takes_too_long_ends_by_itself():
    asked = Asked()
    async with serving(asked, default_deadline_seconds=60) as (stream, _):
        call = stream()
        await send(call, "late", timeout=0.01)
        await send(call, "free")
        await call.done_writing()
        late, free = await rest_of(call)
    assert error_of(late).reason is Reason.DEADLINE_EXCEEDED
    assert asked.cancelled == ["late"]
    assert free["found"] == "free"


async def test_messages_without_a_timeout_have_that_of_calls():
    async with serving(Asked(), default_deadline_seconds=0.01) as (stream, _):
        call = stream()
        await send(call, "late")
        assert error_of(await call.read()).reason is Reason.DEADLINE_EXCEEDED


async def test_messages_take_the_places_of_calls_and_are_refused_without():
    asked = Asked()
    async with serving(asked, max_concurrent_calls=1, max_streams=2) as (stream, _):
        one, other = stream(), stream()
        await send(one, "a")
        await eventually(lambda: asked.begun == ["a"])
        await send(other, "b")
        error = error_of(await other.read())
        assert (error.reason, error.metadata["limit"]) == (
            Reason.OVERLOADED,
            "max_concurrent_calls",
        )
        asked.open("a")
        assert (await one.read())["found"] == "a"
        await send(other, "free")
        assert (await other.read())["found"] == "free"
        call = stream()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert from_rpc_error(caught.value).metadata == {"limit": "max_streams"}


async def test_every_message_is_counted_as_a_call(monkeypatch):
    measured = histograms(monkeypatch, call_metrics)
    async with serving(Asked()) as (stream, _):
        call = stream()
        await send(call, "free", "free")
        await call.done_writing()
        await rest_of(call)
    assert counts(measured["rpc.server.call.duration"], "rpc.method") == {
        (UNARY,): 2,
        (f"{NAME}/Stream",): 1,
    }


async def test_a_caller_that_leaves_ends_what_is_under_way():
    asked = Asked()
    async with serving(asked) as (stream, _):
        call = stream()
        await send(call, "a", "b")
        await eventually(lambda: len(asked.begun) == 2)
        call.cancel()
        await eventually(lambda: sorted(asked.cancelled) == ["a", "b"])


async def test_a_server_that_stops_answers_what_it_has_read_and_no_more():
    asked = Asked()
    async with serving(asked) as (stream, server):
        call, idle = stream(), stream()
        await send(call, "a", "free")
        await send(idle, "free")
        assert (await idle.read())["found"] == "free"
        await eventually(lambda: asked.begun.count("free") == 2)
        stopping = asyncio.create_task(server.drain(grace_seconds=60))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await idle.read()
        assert from_rpc_error(caught.value).reason is Reason.DEPENDENCY_UNAVAILABLE
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        asked.open("a")
        assert [(await call.read())["found"] for _ in range(2)] == ["a", "free"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_who_does_not_read_is_not_read():
    """Answers that nobody takes fill the stream's window, and then its places."""
    work = Blaring()
    async with serving(work, at_once=4) as (stream, _):
        call = stream()
        writing = asyncio.create_task(send(call, *["free"] * 300))
        await stands_still(lambda: work.begun)
        assert work.begun < 250
        for _ in range(300):
            assert await call.read() is not grpc.aio.EOF
        await writing


async def test_who_leaves_while_it_is_answered_is_no_fault_of_the_server(caplog):
    """The answer that waits for the stream's window cannot be written any more."""
    work = Blaring()
    async with serving(work, at_once=4) as (stream, _):
        for _ in range(10):
            call, before = stream(), work.begun
            writing = asyncio.create_task(send(call, *["free"] * 300))
            await eventually(lambda before=before: work.begun > before)
            await stands_still(lambda: work.begun)
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert "a call failed unexpectedly" not in caplog.messages


async def test_what_cannot_be_read_ends_the_stream_once_what_came_before_is_answered():
    asked = Asked()
    async with serving(asked) as (stream, _):
        call = stream()
        await send(call, "a")
        await call.write(b"\xff")
        await eventually(lambda: asked.begun == ["a"])
        asked.open("a")
        assert (await call.read())["found"] == "a"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    error = from_rpc_error(caught.value)
    assert [fault.field for fault in error.faults] == ["request"]


async def stands_still(count):
    """Wait until a count has not changed for a while that others' turns take."""
    last = -1
    while last != count():
        last = count()
        for _ in range(2_000):
            await asyncio.sleep(0)
