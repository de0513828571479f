import asyncio
import json

from tests.integration.gateway.gateway_mesh import Mesh


async def test_events_come_one_by_one(mesh: Mesh) -> None:
    # The head of the answer comes with the first event, as gRPC's does.
    mesh.executor.next_event.release()
    async with mesh.http.stream("GET", "/v1/tasks/abc:watch", params={"after_cursor": 5}) as answer:
        lines = answer.aiter_lines()
        first = await anext(lines)
        # The second event does not exist yet: the watch stands, and waits for the test.
        assert mesh.executor.next_event.locked()
        mesh.executor.next_event.release()
        rest = [line async for line in lines]
    assert answer.headers["content-type"] == "text/event-stream"
    events = [line.removeprefix("data: ") for line in (first, *rest) if line]
    assert [json.loads(event)["event"]["cursor"] for event in events] == ["6", "7"]
    assert json.loads(events[0])["event"]["type"] == "TASK_EVENT_TYPE_STEP_STARTED"


async def test_an_error_before_the_first_event_is_an_http_error(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/missing:watch")
    assert answer.status_code == 404
    assert answer.json()["details"][0]["reason"] == "TASK_NOT_FOUND"


async def test_an_error_after_it_is_in_the_trailers(mesh: Mesh) -> None:
    for _ in range(2):
        mesh.executor.next_event.release()
    host, port = mesh.envoy.target.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/tasks/breaking:watch HTTP/1.1\r\nhost: gateway\r\n\r\n")
    await reader.readuntil(b"\r\n0\r\n")
    trailers = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"grpc-status: 14\r\n" in trailers
    assert b"grpc-message: no database\r\n" in trailers
