"""Workflows as JSON over HTTP, through a real Envoy."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.testing import running_envoy
from tests.integration.executor_svc.executor_mesh import Mesh

GRAPH = {"steps": [{"name": "add", "transform": {"expression": "input + 1"}}]}


@pytest.fixture(scope="module")
async def http(
    shared_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx2.AsyncClient]:
    folder = tmp_path_factory.mktemp("gateway")
    async with (
        running_envoy(folder, executor_target=shared_mesh.server.address) as envoy,
        httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False, timeout=30) as http,
    ):
        yield http


async def test_every_path(http: httpx2.AsyncClient) -> None:
    async def answer(method: str, path: str, body: Any = None) -> Any:
        response = await http.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    name, version = "http.add", "2026.11-21"
    body = {"name": name, "version": version, "graph": GRAPH, "defaults": {"priority": 2}}
    registered = (await answer("POST", "/v1/workflows", body))["workflow"]
    assert registered["version"] == version
    for path in (f"/v1/workflows/{name}", f"/v1/workflows/{name}/versions/{version}"):
        read = (await answer("GET", path))["workflow"]
        assert [step["name"] for step in read["graph"]["steps"]] == ["add"]
        assert read["defaults"]["priority"] == 2
    listed = (await answer("GET", "/v1/workflows?page_size=1000"))["workflows"]
    assert name in [each["name"] for each in listed]
    versions = (await answer("GET", f"/v1/workflows/{name}/versions"))["versions"]
    assert [each["version"] for each in versions] == [version]

    task = {"workflow": {"name": name}, "input": {"json": 1}, "validate_only": True}
    checked = (await answer("POST", "/v1/tasks", task))["task"]
    assert checked["workflow"] == {"name": name, "version": version}

    at = f"/v1/workflows/{name}/versions/{version}"
    state = {"state": "WORKFLOW_VERSION_STATE_DEPRECATED"}
    changed = (await answer("POST", f"{at}:setState", state))["workflow"]
    assert changed["state"] == state["state"]
    await answer("DELETE", at)
    assert (await http.get(at)).status_code == 404

    found = await answer("POST", "/v1/graphs:validate", {"graph": {"steps": [{"name": "A"}]}})
    assert [problem["field"] for problem in found["problems"]] == [
        *("graph.steps[0].name", "graph.steps[0]")
    ]
    shape = (await answer("POST", "/v1/graphs:validate", {"graph": GRAPH}))["shape"]
    assert (shape["steps"], shape["longest_chain"]) == (1, ["add"])


async def test_what_is_refused_says_why(http: httpx2.AsyncClient) -> None:
    refused = await http.post("/v1/tasks", json={"workflow": {"name": "nothing"}})
    assert refused.status_code == 404
    (info,) = refused.json()["details"]
    assert (info["reason"], info["metadata"]["workflow"]) == ("WORKFLOW_NOT_FOUND", "nothing")
