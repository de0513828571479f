"""A server's life: where it listens, its health, reflection and its end."""

import asyncio
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stepwire.lifecycle import StartError
from stepwire.rpc import Server, Service
from stepwire.settings import ServiceSettings
from stepwire.testing.poll import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NAME = "test.Unary"


def service(do, **options):
    async def handler(request, context):
        return await do(request)

    def add(server):
        handlers = {"Do": grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    return Service(NAME, add, **options)


async def echo(request):
    return request


async def test_a_method_that_may_still_come_is_unavailable_not_unimplemented():
    async with (
        Server("test", ServiceSettings(port=0)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for shape in (channel.unary_unary, channel.unary_stream):
            call = shape(f"/{NAME}/Do")(b"x")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
        server.serve([service(echo)])
        assert await channel.unary_unary(f"/{NAME}/Do")(b"x") == b"x"
        missing = channel.unary_unary(f"/{NAME}/Missing")(b"x")
        assert await missing.code() is grpc.StatusCode.UNIMPLEMENTED


async def health_of(channel, name):
    health = health_pb2_grpc.HealthStub(channel)
    return (await health.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_is_not_serving_until_the_services_are_given():
    async with (
        Server("test", ServiceSettings(port=0)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await health_of(channel, "") == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, NAME)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        server.serve([service(echo)])
        assert await health_of(channel, "") == SERVING
        assert await health_of(channel, NAME) == SERVING
        listed = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
        assert {name: r.status for name, r in listed.statuses.items()} == {
            "": SERVING,
            NAME: SERVING,
        }
        assert await channel.unary_unary(f"/{NAME}/Do")(b"x") == b"x"


async def test_a_watcher_sees_every_change_and_the_end():
    async with (
        Server("test", ServiceSettings(port=0)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        request = health_pb2.HealthCheckRequest(service=NAME)
        watch = health_pb2_grpc.HealthStub(channel).Watch(request)
        seen = []

        async def read():
            async for answer in watch:
                seen.append(answer.status)  # noqa: PERF401  (looked at while it grows)

        reading = asyncio.create_task(read())
        await eventually(lambda: seen == [SERVICE_UNKNOWN])
        server.serve([service(echo)])
        await eventually(lambda: seen == [SERVICE_UNKNOWN, SERVING])
        await server.drain(grace_seconds=30)
        await reading
    assert seen == [SERVICE_UNKNOWN, SERVING, NOT_SERVING]


async def test_draining_tells_health_first_then_the_services_then_waits_for_calls():
    order, began, let_go = [], asyncio.Event(), asyncio.Event()

    async def wait(request):
        began.set()
        await let_go.wait()
        order.append("call ended")
        return b"done"

    async with (
        Server("test", ServiceSettings(port=0)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):

        async def drain():
            order.append(f"drain, health {await health_of(channel, NAME)}")
            let_go.set()

        server.serve([service(wait, drain=drain)])
        under_way = asyncio.ensure_future(channel.unary_unary(f"/{NAME}/Do")(b""))
        await began.wait()
        await server.drain(grace_seconds=30)
        order.append("drained")
        assert await under_way == b"done"
    assert order == [f"drain, health {NOT_SERVING}", "call ended", "drained"]


async def test_a_server_that_lingers_takes_calls_behind_a_health_of_not_serving():
    async with (
        Server("test", ServiceSettings(port=0), [service(echo)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await health_of(channel, NAME) == SERVING
        draining = asyncio.create_task(server.drain(grace_seconds=1, linger_seconds=3600))

        async def is_told():
            return await health_of(channel, NAME) == NOT_SERVING

        assert await eventually(is_told)
        assert await channel.unary_unary(f"/{NAME}/Do")(b"x") == b"x"
        assert not draining.done()
        draining.cancel()


async def test_a_failing_drain_does_not_stop_the_stop(caplog):
    async def fail():
        raise ValueError("cannot drain")

    async with Server("test", ServiceSettings(port=0), [service(echo, drain=fail)]) as server:
        await server.drain(grace_seconds=1)
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.unary_unary(f"/{NAME}/Do")(b"x")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert "cannot drain" in caplog.text


async def test_calls_that_outlast_the_grace_are_cancelled():
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with (
        Server("test", ServiceSettings(port=0), [service(wait)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = channel.unary_unary(f"/{NAME}/Do")(b"x")
        waiting = asyncio.create_task(call.code())
        await began.wait()
        await server.drain(grace_seconds=0.01)
        assert await waiting is not grpc.StatusCode.OK
        await eventually(cancelled.is_set)


async def test_a_taken_port_is_named_with_the_setting_to_change():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"toy cannot listen on 127.0.0.1:{port}.*PORT"):
            async with Server("toy", ServiceSettings(port=port)):
                pass


async def test_a_second_server_cannot_share_a_port():
    async with Server("one", ServiceSettings(port=0)) as one:
        with pytest.raises(StartError):
            async with Server("two", ServiceSettings(port=one.port)):
                pass


async def test_reflection_lists_what_is_served():
    async with (
        Server("test", ServiceSettings(port=0), [service(echo)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        answer = await reflection.ServerReflectionInfo(asked).read()
    names = [listed.name for listed in answer.list_services_response.service]
    assert {NAME, "grpc.health.v1.Health"} <= set(names)


async def test_reflection_can_be_off():
    async with (
        Server("test", ServiceSettings(port=0, reflection=False), [service(echo)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        call = reflection.ServerReflectionInfo(asked)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_refused():
    async with (
        Server("test", ServiceSettings(port=0, max_message_bytes=1024), [service(echo)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        method = channel.unary_unary(f"/{NAME}/Do")
        assert await method(b"x" * 1000) == b"x" * 1000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"x" * 2000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented():
    async with (
        Server("test", ServiceSettings(port=0), [service(echo)]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = channel.unary_unary(f"/{NAME}/Undo")(b"x")
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
