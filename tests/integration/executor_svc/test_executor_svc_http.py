"""HTTP steps against a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.integration.executor_svc.executor_mesh import (
    AT_ONCE,
    NO_RETRY,
    graph,
    output_of,
    state_of,
    transform,
)


class Site:
    """A server that answers with what it is told to, and remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.address = ""

    def says(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"HTTP/1.1 {status} .", f"Content-Length: {len(body)}", "Connection: close", *lines]
        self.answers.append("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in rest)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((first.removesuffix(" HTTP/1.1"), headers, body))
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    site.address = f"http://127.0.0.1:{port}"
    async with server:
        yield site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as running:
        yield running


def http(url, **fields):
    spec = {"url": url, **fields.pop("http", {})}
    return {"name": "call", "http": spec, **fields}


async def test_a_call_and_its_answer(client, site):
    site.says(200, b'{"a": [1]}', Content_Type="application/json", X_Thing="t")
    task = await client.run(graph(http(f"{site.address}/things")), {"b": 2})
    answer = output_of(task)
    assert answer["status"] == 200
    assert answer["body"] == {"a": [1]}
    assert answer["headers"]["x-thing"] == "t"
    ((first, headers, body),) = site.requests
    assert first == "POST /things"
    assert json.loads(body) == {"b": 2}
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == f"{task.task_id}/call"


async def test_values_in_the_url_are_percent_encoded(client, site):
    site.says(200, b"plain", Content_Type="text/plain")
    task = await client.run(
        graph(
            http(
                f"{site.address}/${{input.name}}?n=${{input.number}}&v=${{value}}",
                input="input.name",
                http={"method": "GET"},
            )
        ),
        {"name": "a/b &é", "number": 7},
    )
    assert output_of(task)["body"] == "plain"
    assert site.requests[0][0] == "GET /a%2Fb%20%26%C3%A9?n=7&v=a%2Fb%20%26%C3%A9"


async def test_headers_of_the_step(client, site):
    site.says(200)
    headers = {"content-type": "text/x-other", "X-Mine": "m"}
    await client.run(graph(http(site.address, http={"headers": headers})), {})
    sent = site.requests[0][1]
    assert sent["content-type"] == "text/x-other"
    assert sent["x-mine"] == "m"


async def test_an_empty_body_is_no_json(client, site):
    site.says(200, Content_Type="application/json")
    task = await client.run(graph(http(site.address, http={"method": "HEAD"})))
    assert output_of(task)["body"] == ""


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_pass_is_tried_again(client, site, status):
    site.says(status, b"not now")
    site.says(200, b"now", Content_Type="text/plain")
    task = await client.run(graph(http(site.address, retry=AT_ONCE)))
    assert output_of(task)["body"] == "now"
    first, second = site.requests
    assert first[1]["idempotency-key"] == second[1]["idempotency-key"]
    assert task.steps[0].failure.metadata == {"http_status": str(status)}


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_what_will_not_pass_fails_at_once(client, site, status):
    site.says(status, b"no such thing")
    task = await client.run(graph(http(site.address, retry=AT_ONCE)))
    assert task.failure.message == f"HTTP {status}: no such thing"
    assert task.failure.metadata == {"http_status": str(status)}
    assert len(site.requests) == 1


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
async def test_retry_after_is_honoured(client, site, after):
    site.says(429, b"later", Retry_After=after)
    task_id = await client.create(graph(http(site.address, retry=AT_ONCE)))
    step = await client.until(task_id, "call", "WAITING")
    wait = step.wait_until.ToDatetime() - step.start_time.ToDatetime()
    assert wait.total_seconds() >= 3590
    await client.cancel(task_id)


async def test_retry_after_of_no_wait(client, site):
    site.says(503, Retry_After="0")
    site.says(200)
    assert state_of(await client.run(graph(http(site.address, retry=AT_ONCE)))) == "SUCCEEDED"


async def test_a_server_that_is_not_there(client, site):
    async with serving() as gone:
        address = gone.address
    task = await client.run(graph(http(address, retry=AT_ONCE)))
    assert task.failure.metadata == {"exception": "ConnectError"}
    assert task.steps[0].attempt == 3


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"{", {"Content_Type": "application/json"}, "STEP_FAILED"),
        (b"x" * (1024 * 1024 + 1), {}, "OUTPUT_TOO_LARGE"),
    ],
)
async def test_an_answer_that_cannot_be_taken(client, site, body, headers, reason):
    site.says(200, body, **headers)
    task = await client.run(graph(http(site.address, retry=NO_RETRY)))
    assert task.failure.reason == reason


async def test_private_addresses_are_refused(mesh, site):
    async with mesh.worker(http_allow_private=False):
        task = await mesh.client.run(graph(http(site.address, retry=AT_ONCE)))
        assert task.failure.reason == "FIELD_INVALID"
        assert task.failure.metadata == {"field": "url", "address": "127.0.0.1"}
        named = await mesh.client.run(
            graph(http(site.address.replace("127.0.0.1", "localhost"), retry=AT_ONCE))
        )
        assert named.failure.reason == "FIELD_INVALID"
    assert site.requests == []


async def test_the_step_after_reads_the_body(client, site):
    site.says(200, b'{"n": 4}', Content_Type="application/json")
    task = await client.run(
        graph(http(site.address), transform("after", "value.body.n + 1", depends_on=["call"]))
    )
    assert output_of(task) == 5
