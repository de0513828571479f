import base64
import struct

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from tests.integration.gateway.gateway_mesh import Mesh

GET_TASK = "/stepwire.api.executor.v1.ExecutorService/GetTask"
PAGE = "http://localhost:5173"


def frame(message: bytes) -> bytes:
    return b"\x00" + struct.pack(">I", len(message)) + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        flag, length = body[0], struct.unpack(">I", body[1:5])[0]
        found.append((flag, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


async def test_grpc_web(mesh: Mesh) -> None:
    answer = await mesh.http.post(
        GET_TASK,
        content=frame(pb.GetTaskRequest(task_id="abc").SerializeToString()),
        headers={
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "origin": PAGE,
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    (_, message), (flag, trailers) = frames(answer.content)
    assert pb.GetTaskResponse.FromString(message).task.task_id == "abc"
    assert flag == 0x80
    assert b"grpc-status:0" in trailers.replace(b" ", b"")


async def test_grpc_web_as_text(mesh: Mesh) -> None:
    request = frame(pb.GetTaskRequest(task_id="abc").SerializeToString())
    answer = await mesh.http.post(
        GET_TASK,
        content=base64.b64encode(request),
        headers={
            "content-type": "application/grpc-web-text",
            "accept": "application/grpc-web-text",
        },
    )
    (_, message), *_ = frames(base64.b64decode(answer.content))
    assert pb.GetTaskResponse.FromString(message).task.task_id == "abc"


async def test_grpc_web_error(mesh: Mesh) -> None:
    answer = await mesh.http.post(
        GET_TASK,
        content=frame(pb.GetTaskRequest(task_id="missing").SerializeToString()),
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert answer.headers["grpc-status"] == "5"
    assert "grpc-status-details-bin" in answer.headers


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (GET_TASK, "x-grpc-web"),
        ("/v1/tasks", "x-grpc-web"),
        ("/v1/tasks/abc:watch", "x-grpc-web"),
        ("/v1/chat/completions", "authorization"),
        ("/v1/chat/completions", "x-stainless-retry-count"),
        ("/v1/chat/completions", "x-stepwire-project"),
    ],
)
async def test_preflight(mesh: Mesh, path: str, header: str) -> None:
    answer = await mesh.http.options(
        path,
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": f"content-type,{header}",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert header in answer.headers["access-control-allow-headers"].split(", ")
    assert mesh.executor.calls == []


@pytest.mark.parametrize("path", [GET_TASK, "/v1/tasks", "/healthy"])
async def test_pages_of_other_origins_are_refused(mesh: Mesh, path: str) -> None:
    # What a form of any page could send without being asked.
    answer = await mesh.http.post(
        path,
        content=b"{}",
        headers={"origin": "https://evil.example", "content-type": "text/plain"},
    )
    assert answer.status_code == 403
    assert answer.json()["code"] == 7
    assert "access-control-allow-origin" not in answer.headers
    assert mesh.executor.calls == []
