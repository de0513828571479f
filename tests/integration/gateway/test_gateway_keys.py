"""Keys at the gateway: a real Envoy asks a real companion, which asks a real Postgres."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc.aio
import openai
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.api.gateway.v1 import key_service_pb2 as keys_pb
from stepwire.api.gateway.v1.key_service_pb2 import KeyScope
from stepwire.api.inference import open_inference_pb2 as oip
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from stepwire.api_keys import key_text, new_key_id, new_secret
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import CODES, from_rpc_error
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.integration.gateway.gateway_mesh import Mesh

TASK = "/v1/tasks/abc"
READ, ADMIN = KeyScope.KEY_SCOPE_READ, KeyScope.KEY_SCOPE_ADMIN


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def refusal(mesh: Mesh, *metadata: tuple[str, str]) -> StepwireError:
    """Give the error with which a gRPC call is refused."""
    stub: Any = ExecutorServiceStub(mesh.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetTask(pb.GetTaskRequest(task_id="abc"), metadata=metadata)
    error = from_rpc_error(caught.value)
    assert error is not None, caught.value
    assert caught.value.code() is CODES[error.reason]
    return error


async def test_a_good_key_says_which_tenant_calls_and_goes_no_further(
    guarded: Mesh, operator: Client
) -> None:
    made = await operator.keys.create("reader", tenant_id="acme", scopes=[READ])
    stub: Any = ExecutorServiceStub(guarded.channel)
    for name, value in (("authorization", f"bearer {made.text}"), ("x-api-key", made.text)):
        metadata = ((name, value), ("x-tenant-id", "victim"))
        answer = await stub.GetTask(pb.GetTaskRequest(task_id="abc"), metadata=metadata)
        assert answer.task.tenant_id == "acme"
        assert guarded.executor.metadata["x-tenant-id"] == ["acme"]
        assert made.text not in str(guarded.executor.metadata)
        over_http = await guarded.http.get(TASK, headers={name: value, "x-tenant-id": "victim"})
        assert over_http.json()["task"]["tenant_id"] == "acme"


async def test_a_key_of_another_api_beside_ours(guarded: Mesh, first_key: str) -> None:
    """Clients of OpenAI always send one."""
    answer = await guarded.http.get(TASK, headers=bearer("sk-other") | {"x-api-key": first_key})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, Reason.KEY_MISSING),
        ({"authorization": "Basic dXNlcjpwYXNz"}, Reason.KEY_MISSING),
        (bearer("nonsense"), Reason.KEY_INVALID),
        ({"x-api-key": key_text(new_key_id(), new_secret())}, Reason.KEY_INVALID),
    ],
)
async def test_a_call_without_a_good_key_reaches_no_service(
    guarded: Mesh, headers: Mapping[str, str], reason: Reason
) -> None:
    guarded.executor.calls.clear()
    assert (await refusal(guarded, *headers.items())).reason is reason
    answer = await guarded.http.get(TASK, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert [detail["reason"] for detail in answer.json()["details"]] == [reason.value]
    assert guarded.executor.calls == []


async def test_the_right_id_with_a_wrong_secret(guarded: Mesh, first_key: str) -> None:
    _, key_id, _ = first_key.split("_")
    error = await refusal(guarded, ("x-api-key", key_text(key_id, new_secret())))
    assert error.reason is Reason.KEY_INVALID


async def test_a_revoked_key_is_refused_and_stays_so(guarded: Mesh, operator: Client) -> None:
    made = await operator.keys.create("leaver")
    assert (await guarded.http.get(TASK, headers=bearer(made.text))).status_code == 200
    revoked = await operator.keys.revoke(made.key.key_id)
    assert (await refusal(guarded, ("x-api-key", made.text))).reason is Reason.KEY_REVOKED
    assert await operator.keys.revoke(made.key.key_id) == revoked
    with pytest.raises(StepwireError) as caught:
        await operator.keys.rotate(made.key.key_id)
    assert caught.value.reason is Reason.FIELD_INVALID


async def test_an_expired_key(guarded: Mesh, operator: Client) -> None:
    made = await operator.keys.create("short", lifetime=timedelta(seconds=1))

    async def expired() -> bool:
        answer = await guarded.http.get(TASK, headers=bearer(made.text))
        return answer.status_code == 401

    await eventually(expired)
    assert (await refusal(guarded, ("x-api-key", made.text))).reason is Reason.KEY_EXPIRED


async def test_a_rotated_key_has_two_secrets_for_a_time(guarded: Mesh, operator: Client) -> None:
    old = await operator.keys.create("rotated")
    new = await operator.keys.rotate(old.key.key_id)
    for text in (old.text, new.text):
        assert (await guarded.http.get(TASK, headers=bearer(text))).status_code == 200
    newest = await operator.keys.rotate(old.key.key_id, overlap=timedelta(0))
    assert (await refusal(guarded, ("x-api-key", old.text))).reason is Reason.KEY_INVALID
    assert (await refusal(guarded, ("x-api-key", new.text))).reason is Reason.KEY_EXPIRED
    assert (await guarded.http.get(TASK, headers=bearer(newest.text))).status_code == 200


async def test_scopes(guarded: Mesh, operator: Client) -> None:
    reader = await operator.keys.create("reader", scopes=[READ])
    async with Client(guarded.envoy.target, api_key=reader.text) as client:
        with pytest.raises(StepwireError) as caught:
            await client.cancel("abc")
        assert (caught.value.reason, caught.value.metadata) == (
            Reason.SCOPE_MISSING,
            {"scope": "write"},
        )
        with pytest.raises(StepwireError) as caught:
            await client.keys.create("mine", scopes=[ADMIN])
        assert caught.value.metadata == {"scope": "admin"}
    answer = await guarded.http.post("/v1/tasks", json={}, headers=bearer(reader.text))
    assert answer.status_code == 403
    assert answer.json()["details"][0]["metadata"] == {"scope": "write"}


async def test_a_call_that_is_made_again_makes_one_key(guarded: Mesh, operator: Client) -> None:
    request = {"name": "twice", "tenant_id": "acme", "request_id": new_key_id()}
    first_text = (await post_key(guarded, operator, request)).key_text
    again = await post_key(guarded, operator, request)
    assert (await refusal(guarded, ("x-api-key", first_text))).reason is Reason.KEY_INVALID
    assert (await guarded.http.get(TASK, headers=bearer(again.key_text))).status_code == 200
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await post_key(guarded, operator, request | {"name": "other"})
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    found = [key.name async for key in operator.keys.find(tenant_id="acme")]
    assert found.count("twice") == 1
    assert "other" not in found


async def post_key(mesh: Mesh, operator: Client, request: Mapping[str, Any]) -> Any:
    stub: Any = operator.keys._stub
    return await stub.CreateKey(keys_pb.CreateKeyRequest(**request))


async def test_the_first_key_allows_everything(guarded: Mesh, operator: Client) -> None:
    listed = {key.name: key async for key in operator.keys.find(page_size=1)}
    assert listed["first"].scopes == [READ, KeyScope.KEY_SCOPE_WRITE, ADMIN]


async def test_health_needs_no_key(guarded: Mesh) -> None:
    assert (await guarded.http.get("/healthz")).status_code == 200
    assert (await guarded.http.get("/")).status_code == 200
    assert (await guarded.http.get("/nowhere")).status_code == 404


async def test_the_shape_of_openai(guarded: Mesh, operator: Client) -> None:
    reader = await operator.keys.create("reader", scopes=[READ])
    where = f"http://{guarded.envoy.target}/v1"
    async with openai.AsyncOpenAI(base_url=where, api_key="sk-none", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await client.models.list()
    assert unknown.value.code == "key_invalid"
    async with openai.AsyncOpenAI(base_url=where, api_key=reader.text, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            await client.chat.completions.create(model="m", messages=[])
        assert forbidden.value.type == "permission_error"
        # It passes: what it is answered with is that the service is down.
        with pytest.raises(openai.InternalServerError):
            await client.models.list()


async def test_the_shape_of_open_inference(guarded: Mesh, first_key: str) -> None:
    answer = await guarded.http.get("/v2/health/live")
    assert answer.status_code == 401
    assert answer.json()["error"].startswith("the call brings no key")
    stub: Any = GRPCInferenceServiceStub(guarded.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ServerLive(oip.ServerLiveRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    answer = await stub.ServerLive(oip.ServerLiveRequest(), metadata=[("x-api-key", first_key)])
    assert answer.live


async def test_grpc_web_and_preflights(guarded: Mesh, first_key: str) -> None:
    page = {"origin": "http://localhost:5173"}
    preflight = page | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    asked = await guarded.http.options(TASK, headers=preflight)
    assert asked.status_code == 200
    assert "x-api-key" in asked.headers["access-control-allow-headers"]
    web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"} | page
    body = b"\x00\x00\x00\x00\x05" + pb.GetTaskRequest(task_id="abc").SerializeToString()
    path = "/stepwire.api.executor.v1.ExecutorService/GetTask"
    denied = await guarded.http.post(path, content=body, headers=web)
    assert denied.headers["grpc-status"] == str(grpc.StatusCode.UNAUTHENTICATED.value[0])
    passed = await guarded.http.post(path, content=body, headers=web | bearer(first_key))
    assert b"abc" in passed.content


async def test_a_stream_is_asked_at_its_beginning(guarded: Mesh, first_key: str) -> None:
    path = f"{TASK}:watch"
    assert (await guarded.http.get(path)).status_code == 401
    guarded.executor.next_event.release()
    headers = bearer(first_key)
    async with guarded.http.stream("GET", path, headers=headers) as stream:
        assert stream.status_code == 200
        assert "cursor" in await anext(stream.aiter_text())
