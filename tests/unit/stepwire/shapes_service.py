"""A server with one method of each shape of a call, and ways of calling it."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.message import DecodeError

from stepwire.rpc import Server, Service
from stepwire.settings import ServiceSettings

NAME = "test.Shapes"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


UNREADABLE = b"\xff"


def read(message):
    if message == UNREADABLE:
        raise DecodeError("bad bytes")
    return message


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
            shape: getattr(grpc, f"{shape}_rpc_method_handler")(
                getattr(self, shape), request_deserializer=read
            )
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
