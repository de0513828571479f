"""Subscriptions as JSON over HTTP, through a real Envoy."""

from pathlib import Path

import httpx2

from gateway.testing import running_envoy
from stepwire.sdk.webhooks import decode_secret
from tests.integration.executor_svc.executor_mesh import Mesh

URL = "https://example.com/hook"


async def test_every_call_has_its_path(mesh: Mesh, tmp_path: Path) -> None:
    async with (
        running_envoy(tmp_path, executor_target=mesh.server.address) as envoy,
        httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False) as http,
    ):
        wanted = {
            "name": "hook",
            "webhook": {"url": URL},
            "events": ["TASK_EVENT_TYPE_TASK_FAILED"],
            "labels": {"team": "a"},
        }
        request = {"subscription": wanted, "request_id": "r"}
        created = (await http.post("/v1/subscriptions", json=request)).json()
        assert len(decode_secret(created["secret"])) == 32
        path = "/v1/subscriptions/hook"
        assert (await http.get(path)).json() == {"subscription": created["subscription"]}
        listed = (await http.get("/v1/subscriptions?page_size=5")).json()
        assert listed["subscriptions"] == [created["subscription"]]

        change = {"subscription": {"paused": True, "labels": {"b": "2"}}, "update_mask": "paused"}
        changed = (await http.post(f"{path}:update", json=change)).json()["subscription"]
        assert (changed["paused"], changed["labels"]) == (True, {"team": "a"})
        change = {
            "subscription": {"webhook": {"url": f"{URL}/2"}},
            "update_mask": "webhook.url,labels",
        }
        changed = (await http.post(f"{path}:update", json=change)).json()["subscription"]
        assert (changed["webhook"]["url"], changed["labels"]) == (f"{URL}/2", {})

        rotated = (await http.post(f"{path}:rotateSecret", json={"overlap": "0s"})).json()
        assert rotated["secret"] != created["secret"]
        assert "previous_secret_end_time" not in rotated["subscription"]["webhook"]
        rotated = (await http.post(f"{path}:rotateSecret", json={})).json()
        assert "previous_secret_end_time" in rotated["subscription"]["webhook"]

        pinged = (await http.post(f"{path}:test", json={})).json()
        task = (await http.get(f"/v1/tasks/{pinged['task_id']}")).json()["task"]
        subscription_id = created["subscription"]["subscription_id"]
        assert task["labels"] == {"stepwire.subscription": subscription_id}

        for _ in range(2):
            assert (await http.delete(f"{path}?request_id=d")).json() == {}
        assert (await http.get(path)).status_code == 404
