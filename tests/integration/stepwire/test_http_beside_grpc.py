"""HTTP beside gRPC: one list of concerns for both, and an orderly end."""

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx2
import pytest

from stepwire.errors import StepwireError
from stepwire.http import Answer, Asked, HttpApp, HttpServer, Route, Stream
from stepwire.http.exchange import Exchange
from stepwire.lifecycle import StartError
from stepwire.rpc import Server, Service, current_call
from stepwire.settings import ServiceSettings
from stepwire.testing.poll import eventually


class Plain:
    """The simplest dialect: a reason and nothing else."""

    def error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> Answer:
        return Answer(error.reason.value.encode(), 500 + code.value[0])

    def late_error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> bytes:
        return error.reason.value.encode()

    def nothing(self, status: int, path: str) -> Answer:
        return Answer(path.encode(), status)

    def is_stream(self, asked: Asked) -> bool:
        return asked.path == "/stream"

    def timeout_seconds(self, asked: Asked, *, stream: bool) -> float | None:
        return float(asked.headers["x-timeout"]) if "x-timeout" in asked.headers else None


@dataclass
class Place:
    client: httpx2.AsyncClient
    server: HttpServer
    app: HttpApp
    beside: Server
    free: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    seen: list[Any] = field(default_factory=list)

    async def wait(self, asked: Asked) -> Answer:
        self.seen.append((asked.body, asked.rest, current_call().tenant_id))
        self.waiting += 1
        try:
            await self.free.wait()
        finally:
            self.waiting -= 1
        return Answer(b"whole")

    async def stream(self, asked: Asked) -> Stream:
        return Stream(self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes]:
        yield b"one "
        await self.wait(Asked("", {}))
        yield b"two"


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Place]:
    place: Any = Place(None, None, None, None)  # type: ignore[arg-type]
    routes = [
        Route("POST", "/wait", "test/Wait", place.wait),
        Route("GET", "/wait/", "test/WaitFor", place.wait),
        Route("POST", "/stream", "test/Stream", place.stream),
    ]
    place.app = HttpApp(routes, Plain(), max_body_bytes=100)
    place.server = HttpServer(
        place.app, host="127.0.0.1", port=0, port_variable="PORT", drain_seconds=1
    )
    service = Service("test", lambda _: None, attach=place.app.attach, retire=place.app.retire)
    async with place.server:
        url = f"http://{place.server.address}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as place.client:
            assert (await place.client.get("/healthz")).status_code == 503
            assert (await place.client.post("/wait", content=b"{}")).status_code == 503
            place.beside = Server("test", ServiceSettings(port=0, **settings), [service])
            async with place.beside:
                yield place


async def test_calls_have_the_concerns_of_the_server() -> None:
    async with running(max_concurrent_calls=1, default_deadline_seconds=20) as place:
        client = place.client
        assert (await client.get("/healthz")).status_code == 200
        headers = {"x-tenant-id": "acme", "x-request-id": "r1"}
        first = asyncio.create_task(client.post("/wait", json={"a": 1}, headers=headers))
        await eventually(lambda: place.waiting == 1)
        # RESOURCE_EXHAUSTED is 8; of the same limit as calls of gRPC are.
        second = await client.get("/wait/x", headers=headers)
        assert (second.status_code, second.text) == (508, "OVERLOADED")
        place.free.set()
        answered = await first
        assert (answered.status_code, answered.text) == (200, "whole")
        assert answered.headers["x-request-id"] == "r1"
        await client.get("/wait/x")
        assert place.seen == [({"a": 1}, "", "acme"), (None, "x", "default")]
        place.free.clear()
        late = await client.post("/wait", content=b"{}", headers={"x-timeout": "0.2"})
        assert (late.status_code, late.text) == (504, "DEADLINE_EXCEEDED")
        assert place.waiting == 0


async def test_what_cannot_be_answered() -> None:
    asked: list[tuple[str, str, bytes, tuple[int, str]]] = [
        ("GET", "/none", b"", (404, "/none")),
        ("GET", "/wait/a/b", b"", (404, "/wait/a/b")),
        ("GET", "/wait", b"", (405, "/wait")),
        # INVALID_ARGUMENT is 3.
        ("POST", "/wait", b"{bad", (503, "FIELD_INVALID")),
        ("POST", "/wait", b"x" * 101, (503, "PAYLOAD_TOO_LARGE")),
    ]
    async with running() as place:
        for verb, path, content, told in asked:
            answered = await place.client.request(verb, path, content=content)
            assert (answered.status_code, answered.text) == told
        assert not place.seen


async def test_a_process_that_lingers_says_so_and_answers() -> None:
    async with running() as place:
        draining = asyncio.create_task(place.beside.drain(grace_seconds=1, linger_seconds=3600))

        async def is_told() -> bool:
            return (await place.client.get("/healthz")).status_code == 503

        assert await eventually(is_told)
        place.free.set()
        assert (await place.client.post("/wait", content=b"{}")).text == "whole"
        draining.cancel()


async def test_what_is_under_way_may_end_and_nothing_new_begins() -> None:
    async with running() as place:
        call = asyncio.create_task(place.client.post("/stream", content=b"{}"))
        await eventually(lambda: place.waiting == 1)
        place.app.detach()
        assert (await place.client.get("/healthz")).status_code == 503
        place.server.stop()
        place.free.set()
        assert (await call).text == "one two"


async def test_what_does_not_end_in_time_is_told_so() -> None:
    async with running() as place:
        begun = asyncio.create_task(place.client.post("/stream", content=b"{}"))
        await eventually(lambda: place.waiting == 1)
        whole = asyncio.create_task(place.client.post("/wait", content=b"{}"))
        await eventually(lambda: place.waiting == 2)
        place.server.stop()
        assert (await begun).text == "one DEPENDENCY_UNAVAILABLE"
        # UNAVAILABLE is 14.
        assert (await whole).status_code == 514


async def test_a_client_that_leaves_ends_its_call() -> None:
    async with running() as place:
        call = asyncio.create_task(place.client.post("/wait", content=b"{}"))
        await eventually(lambda: place.waiting == 1)
        call.cancel()
        await eventually(lambda: place.waiting == 0)


async def test_a_port_that_is_taken_is_named() -> None:
    async with running() as place:
        port = int(place.server.address.rpartition(":")[2])
        other = HttpServer(None, host="127.0.0.1", port=port, port_variable="X", drain_seconds=1)
        with pytest.raises(StartError, match="set X to another"):
            await other.__aenter__()


async def test_nothing_of_an_answer_is_held_back_until_its_beginning_is_confirmed() -> None:
    undelayed: list[int] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        # uvicorn tells of its connection in no other way.
        connection = receive.__self__.transport.get_extra_info("socket")
        undelayed.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = HttpServer(app, host="127.0.0.1", port=0, port_variable="PORT", drain_seconds=1)
    async with server, httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{server.address}/")).is_success
    assert undelayed == [1]


async def test_a_request_leaves_nothing_for_the_collector_of_garbage() -> None:
    async with running() as place:
        place.free.set()
        await place.client.post("/wait", json={})
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for path in ("/wait", "/stream", "/nowhere"):
                await place.client.post(path, json={})
            # The end of what watched the client comes after the answer.
            await asyncio.sleep(0)
            gc.collect()
            left = [each for each in gc.garbage if isinstance(each, Exchange)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert not left
