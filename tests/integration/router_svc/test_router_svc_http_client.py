"""The HTTP client against servers that behave as servers may."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from router_svc.catalogue.models import OpenAIProvider
from router_svc.providers.http import ConnectionFailedError, HttpClient
from router_svc.providers.http.client import STALE_SECONDS
from router_svc.providers.openai import OpenAIModel
from router_svc.requests.records import Message, Request, Role
from stepwire.testing.poll import eventually

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@asynccontextmanager
async def serving(
    handle: Handle, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[HttpClient]:
    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient(
        f"http://127.0.0.1:{port}/v1/", headers={"x": "y"}, connect_seconds=2, clock=clock
    )
    try:
        yield client
    finally:
        client.close()
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def post(client: HttpClient, body: bytes = b"{}") -> tuple[int, bytes]:
    async with await client.post("/chat", body) as response:
        return response.status, await response.read(limit=10)


async def test_a_connection_is_kept_and_used_again() -> None:
    connections, requests = 0, []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            requests.append(await read_request(reader))
            writer.write(OK)

    async with serving(handle) as client:
        assert [await post(client) for _ in range(3)] == [(200, b"hi")] * 3
    assert connections == 1
    assert requests[0].startswith(b"POST /v1/chat HTTP/1.1\r\n")
    assert b"x: y\r\n" in requests[0].lower()


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    served = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await read_request(reader)
        writer.write(OK)
        # Closes upon the next request, without an answer.
        await reader.read(1)
        served += 1

    async with serving(handle) as client:
        for _ in range(4):
            assert await post(client) == (200, b"hi")
        assert served >= 1


async def test_what_a_server_sends_too_much_reaches_no_other_request() -> None:
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(OK + OK.replace(b"hi", b"ho"))
        await reader.read(1)

    async with serving(handle) as client:
        assert [await post(client) for _ in range(3)] == [(200, b"hi")] * 3
    assert requests == 3


async def test_a_stream_that_does_not_say_its_end_ends_with_the_answer() -> None:
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        said = json.dumps({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]})
        body = f"data: {said}\n\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        writer.write(OK)
        await reader.read(1)

    async with serving(handle) as client:
        for _ in range(2):
            assert await streamed(client) == "Hi"
    assert requests == 2


async def streamed(client: HttpClient) -> str:
    """Returns what a model says as a stream."""
    model = OpenAIModel(
        OpenAIProvider(kind="openai", base_url="http://x/v1", model="m"), client, key=None
    )
    request = Request(messages=(Message(Role.USER, "Hello"),))
    async with asyncio.timeout(10), aclosing(model.stream(request, max_output_tokens=9)) as deltas:
        (*_, last) = [delta async for delta in deltas]
    assert last.end is not None
    return last.end.text


async def test_a_request_that_the_server_may_have_worked_on_is_not_sent_again() -> None:
    requests, now = 0, 0.0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests, now
        await read_request(reader)
        requests += 1
        writer.write(OK)
        await read_request(reader)
        requests += 1
        # It has worked for a while when it goes.
        now += STALE_SECONDS

    async with serving(handle, lambda: now) as client:
        assert await post(client) == (200, b"hi")
        with pytest.raises(ConnectionFailedError):
            await post(client)
    assert requests == 2


async def test_a_stream_ends_when_it_says_so_whatever_the_connection_does() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for end in (b"0\r\n\r\n", b""):
            await read_request(reader)
            said = json.dumps({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]})
            body = f"data: {said}\n\ndata: [DONE]\n\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(body), body))
            await writer.drain()
            writer.write(end)
        await reader.read(1)

    async with serving(handle) as client:
        for _ in range(2):
            assert await streamed(client) == "Hi"
    assert connections == 1


async def test_why_there_is_no_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Speak HTTP\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        client = HttpClient(f"https://127.0.0.1:{port}/v1", headers={}, connect_seconds=5)
        with pytest.raises(ConnectionFailedError, match=r"^tls: .*(version|record|http)"):
            await client.post("/chat", b"{}")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = HttpClient("http://nowhere.example/v1", headers={}, connect_seconds=5)
    with pytest.raises(ConnectionFailedError, match=r"^name or service not known$"):
        await client.post("/chat", b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ],
)
async def test_what_is_no_whole_answer_within_the_limit_fails(answer: bytes) -> None:
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(answer)
        await writer.drain()

    async with serving(handle) as client:
        with pytest.raises(ConnectionFailedError):
            await post(client)
    assert requests == 1


async def test_a_cancelled_request_closes_its_connection() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        begun.set()
        try:
            await reader.read(1)
        finally:
            ended.set()

    async with serving(handle) as client:
        posting = asyncio.ensure_future(post(client))
        await eventually(begun.is_set)
        posting.cancel()
        await eventually(ended.is_set)
        assert posting.cancelled()


async def test_a_reader_that_is_slow_holds_the_server_back() -> None:
    written = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    async with serving(handle) as client, await client.post("/chat", b"{}") as response:
        pieces = response.pieces()
        first = await anext(pieces)
        before = -1
        while written != before:
            before = written
            for _ in range(200):
                await asyncio.sleep(0)
        assert written < 30_000_000
        size = len(first)
        async for piece in pieces:
            size += len(piece)
    assert size == 50_000_000
