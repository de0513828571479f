import base64
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.gateway.gateway_mesh import Mesh, running_mesh


def reason_of(answer: httpx2.Response) -> str:
    assert answer.headers["content-type"] == "application/json"
    (info,) = [
        detail
        for detail in answer.json()["details"]
        if detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    ]
    assert info["domain"] == "stepwire"
    return str(info["reason"])


async def test_post_with_a_natural_json_value(mesh: Mesh) -> None:
    value = {"texts": ["a", "b"], "n": 3, "x": 2.5, "on": True, "none": None, "deep": {"k": []}}
    answer = await mesh.http.post(
        "/v1/tasks", json={"input": {"json": value}, "labels": {"team": "red"}}
    )
    assert answer.status_code == 200
    task = answer.json()["task"]
    assert task["input"]["json"] == value
    assert task["labels"] == {"team": "red"}
    assert task["tenant_id"] == "default"


async def test_bytes_are_base64(mesh: Mesh) -> None:
    data = base64.b64encode(b"\x00\xff raw").decode()
    answer = await mesh.http.post(
        "/v1/tasks", json={"input": {"data": data, "content_type": "application/x-raw"}}
    )
    assert answer.json()["task"]["input"] == {"data": data, "content_type": "application/x-raw"}


async def test_get_with_path_and_query(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/abc", params={"include_steps": "true"})
    task = answer.json()["task"]
    assert task["task_id"] == "abc"
    assert task["labels"] == {"steps": "True"}


async def test_get_with_a_verb_and_a_duration(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/abc:wait", params={"timeout": "1.5s"})
    assert answer.json()["task"]["task_id"] == "abc"
    assert mesh.executor.calls == ["WaitTask"]


async def test_names_of_requests_may_be_camel_case(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/abc", params={"includeSteps": "true"})
    assert answer.json()["task"]["labels"] == {"steps": "True"}


async def test_zeros_and_empty_lists_are_written(mesh: Mesh) -> None:
    task = (await mesh.http.get("/v1/tasks/abc")).json()["task"]
    assert task["state"] == "TASK_STATE_UNSPECIFIED"
    assert task["steps"] == []
    assert task["last_cursor"] == "0"


async def test_tenant_header_is_not_the_clients(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/abc", headers={"X-Tenant-Id": "other"})
    assert answer.json()["task"]["tenant_id"] == "default"


async def test_an_error_has_its_http_code_and_details(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/missing")
    assert answer.status_code == 404
    assert answer.json() == {
        "code": 5,
        "message": "no task missing",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TASK_NOT_FOUND",
                "domain": "stepwire",
                "metadata": {"task_id": "missing"},
            }
        ],
    }


async def test_a_faulty_field_is_named(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/tasks/faulty")
    assert answer.status_code == 400
    (bad,) = [d for d in answer.json()["details"] if d["@type"].endswith("BadRequest")]
    assert bad["field_violations"][0]["field"] == "task_id"


@pytest.mark.parametrize(
    ("request_line", "arguments", "expected"),
    [
        ("GET /v1/tasks/abc?include_stepz=true", {}, (400, "FIELD_INVALID")),
        ("GET /v1/tasks/abc?include_steps=maybe", {}, (400, "FIELD_INVALID")),
        ("POST /v1/tasks", {"content": b"{bad"}, (400, "FIELD_INVALID")),
        ("POST /v1/tasks", {"json": {"labels": 3}}, (400, "FIELD_INVALID")),
        ("GET /v1/collections", {}, (503, "DEPENDENCY_UNAVAILABLE")),
    ],
)
async def test_errors_of_the_gateway_look_like_the_services(
    mesh: Mesh, request_line: str, arguments: dict[str, Any], expected: tuple[int, str]
) -> None:
    method, path = request_line.split()
    answer = await mesh.http.request(method, path, **arguments)
    assert (answer.status_code, reason_of(answer)) == expected
    assert answer.json()["message"]
    assert answer.headers["x-request-id"]
    assert mesh.executor.calls == []


async def test_a_service_that_hangs_is_a_gateway_timeout(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/catalogue", headers={"grpc-timeout": "200m"})
    assert answer.status_code == 504
    # The details are Envoy's; the service's own gRPC may have ended the call before it.
    assert answer.json()["code"] == 4
    assert not answer.json()["details"] or reason_of(answer) == "DEADLINE_EXCEEDED"


async def test_a_service_that_is_down_is_named(mesh: Mesh) -> None:
    answer = await mesh.http.get("/v1/collections")
    assert answer.json()["message"] == "the vector service does not answer"
    assert answer.json()["details"][0]["metadata"] == {"dependency": "vector"}


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/small?x=1"),
    ],
)
async def test_clients_of_openai_are_told_of_what_is_down_as_they_know_it(
    mesh: Mesh, verb: str, path: str
) -> None:
    answer = await mesh.http.request(verb, path)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error.pop("request_id") == answer.headers["x-request-id"]
    assert error == {
        "message": "the router service does not answer",
        "type": "server_error",
        "code": "dependency_unavailable",
    }


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/tasks/abc/nothing", "/favicon.ico"])
async def test_an_unknown_path(mesh: Mesh, path: str) -> None:
    answer = await mesh.http.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"code": 12, "message": "no such method or path", "details": []}


async def test_a_request_that_is_too_large(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, max_json_request_bytes=2048) as mesh:
        fits = await mesh.http.post("/v1/tasks", json={"input": {"json": "x" * 1500}})
        answer = await mesh.http.post("/v1/tasks", json={"input": {"json": "x" * 5000}})
    assert fits.status_code == 200
    assert (answer.status_code, reason_of(answer)) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.json()["details"][0]["metadata"] == {"limit_bytes": "2048"}


async def test_index_and_liveness(mesh: Mesh) -> None:
    index = await mesh.http.get("/")
    assert index.headers["content-type"] == "application/json"
    assert "stepwire.api.executor.v1.ExecutorService" in index.json()["services"]
    assert (await mesh.http.get("/healthz")).status_code == 200
