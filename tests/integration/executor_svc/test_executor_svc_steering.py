"""Pausing and resuming tasks, and sending them signals."""

import asyncio
import uuid

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.errors import Reason
from stepwire.payload import value_to_json
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    chain,
    graph,
    output_of,
    python,
    refused,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import pause, resume, send

APPROVAL = graph(
    transform("ask", "value"),
    {"name": "approval", "depends_on": ["ask"], "wait_signal": {"name": "approved"}},
    transform("done", "value", depends_on=["approval"]),
)
TWO_APPROVALS = graph(
    {"name": "first", "wait_signal": {"name": "approved"}},
    {"name": "second", "wait_signal": {"name": "approved"}},
)
# It waits long enough for any test.
ASLEEP = graph({"name": "wait", "sleep": {"duration": {"seconds": 3600}}})


async def test_nothing_new_starts_in_a_paused_task(client, tmp_path):
    path, go = tmp_path / "notes", tmp_path / "go"
    task_id = await client.create(
        graph(
            python("slow", "await_file", input="input"),
            python("next", "note", depends_on=["slow"], input="input"),
        ),
        {"path": str(path), "awaits": str(go)},
    )
    await eventually(lambda: noted(path) == ["slow 1"])
    assert state_of(await pause(client, task_id)) == "PAUSED"
    go.touch()
    # What runs goes on and is recorded.
    await client.until(task_id, "slow", "SUCCEEDED")
    assert state_of(await client.step(task_id, "next")) == "BLOCKED"
    assert state_of(await pause(client, task_id)) == "PAUSED"
    assert state_of(await resume(client, task_id)) != "PAUSED"
    assert state_of(await client.wait(task_id)) == "SUCCEEDED"
    assert noted(path) == ["slow 1", "next 1"]
    history = await client.history(task_id)
    assert history.count("TASK_PAUSED") == history.count("TASK_RESUMED") == 1


async def test_a_task_that_is_paused_before_it_begins(mesh):
    client = mesh.client
    task_id = await client.create(chain(2), 1)
    assert state_of(await pause(client, task_id)) == "PAUSED"
    async with mesh.worker():
        other = await client.run(chain(1), 1)
        assert state_of(other) == "SUCCEEDED"
        assert [state_of(step) for step in (await client.get(task_id)).steps] == ["BLOCKED"]
        assert state_of(await resume(client, task_id)) != "PAUSED"
        assert output_of(await client.wait(task_id)) == 3


async def test_to_resume_a_task_that_goes_on_changes_nothing(client):
    task_id = await client.create(ASLEEP)
    await client.until(task_id, "wait", "WAITING")
    assert state_of(await resume(client, task_id)) == "WAITING"
    await client.cancel(task_id)
    assert "TASK_RESUMED" not in await client.history(task_id)


async def test_a_call_that_comes_again_late_does_not_hold_or_free_a_task_anew(client):
    task_id = await client.create(ASLEEP)
    await pause(client, task_id, request_id="p")
    await resume(client, task_id, request_id="r")
    assert state_of(await pause(client, task_id, request_id="p")) != "PAUSED"
    assert state_of(await pause(client, task_id, request_id="p2")) == "PAUSED"
    assert state_of(await resume(client, task_id, request_id="r")) == "PAUSED"
    await client.cancel(task_id)
    # Known even when the task is over.
    assert state_of(await pause(client, task_id, request_id="p2")) == "CANCELLED"
    history = await client.history(task_id)
    assert (history.count("TASK_PAUSED"), history.count("TASK_RESUMED")) == (2, 1)


async def test_what_comes_due_in_a_paused_task_is_held(client):
    nap = {"name": "nap", "sleep": {"duration": {"nanos": 200_000_000}}}
    task_id = await client.create(graph(nap, transform("after", "1", depends_on=["nap"])))
    await client.until(task_id, "nap", "WAITING")
    await pause(client, task_id)
    await client.until(task_id, "nap", "BLOCKED")
    assert state_of(await client.get(task_id)) == "PAUSED"
    await resume(client, task_id)
    assert state_of(await client.wait(task_id)) == "SUCCEEDED"


async def test_a_paused_task_can_be_cancelled(client):
    task_id = await client.create(ASLEEP)
    await pause(client, task_id)
    assert state_of(await client.cancel(task_id)) == "CANCELLED"


@pytest.mark.parametrize("method", ["PauseTask", "ResumeTask", "SignalTask"])
async def test_a_final_task_is_neither_held_nor_signalled(client, method):
    task_id = await client.create(TWO_APPROVALS)
    await client.cancel(task_id)
    request = getattr(pb, f"{method}Request")(task_id=task_id)
    if method == "SignalTask":
        request.name = "approved"
    for _ in range(2):
        async with refused() as why:
            await client.call(method, request)
        assert why().reason == Reason.TASK_STATE_CONFLICT
        assert why().metadata["state"] == "CANCELLED"


async def test_a_signal_is_the_output_of_the_step_that_waits_for_it(client):
    task_id = await client.create(APPROVAL, 1)
    step = await client.until(task_id, "approval", "WAITING")
    assert step.waits_for == "signal:approved"
    assert step.HasField("wait_until")
    assert state_of(await client.get(task_id)) == "WAITING"
    await send(client, task_id, "approved", {"by": "ada"})
    assert output_of(await client.wait(task_id)) == {"by": "ada"}
    events = await client.events(task_id)
    (signalled,) = [event for event in events if event.HasField("detail") and not event.step_id]
    assert value_to_json(signalled.detail.fields["name"]) == "approved"


async def test_a_signal_is_kept_for_the_step_that_comes_to_wait_for_it(mesh):
    client = mesh.client
    task_id = await client.create(APPROVAL, 1)
    await send(client, task_id, "approved", 7)
    async with mesh.worker():
        assert output_of(await client.wait(task_id)) == 7


async def test_each_signal_is_taken_once(client):
    task_id = await client.create(TWO_APPROVALS)
    await client.until(task_id, "first", "WAITING")
    await client.until(task_id, "second", "WAITING")
    await send(client, task_id, "approved", 1)
    await client.until(task_id, "first", "SUCCEEDED")
    assert state_of(await client.step(task_id, "second")) == "WAITING"
    await send(client, task_id, "approved", 2)
    assert output_of(await client.wait(task_id)) == {"first": 1, "second": 2}


async def test_a_request_id_sends_one_signal(client):
    task_id = await client.create(TWO_APPROVALS)
    await asyncio.gather(*(send(client, task_id, "approved", 1, request_id="r") for _ in range(5)))
    await client.until(task_id, "first", "SUCCEEDED")
    assert state_of(await client.step(task_id, "second")) == "WAITING"
    async with refused() as why:
        await send(client, task_id, "approved", 2, request_id="r")
    assert why().reason == Reason.REQUEST_ID_REUSED
    await send(client, task_id, "approved", 2, request_id="other")
    await client.wait(task_id)
    # Known even when the task is over.
    assert state_of(await send(client, task_id, "approved", 1, request_id="r")) == "SUCCEEDED"


async def test_a_request_id_sends_no_signal_that_only_looks_alike(client):
    task_id = await client.create(APPROVAL, 1)
    await send(client, task_id, "approved", {"a": 1, "b": []}, request_id="r")
    await send(client, task_id, "approved", {"b": [], "a": 1}, request_id="r")
    async with refused() as why:
        await send(client, task_id, "approved", {"a": True, "b": []}, request_id="r")
    assert why().reason == Reason.REQUEST_ID_REUSED


async def test_a_signal_that_no_step_waits_for_is_refused(client):
    task_id = await client.create(APPROVAL, 1)
    for name in ("approval", "", "no such signal", "\0", "x" * 1000):
        async with refused() as why:
            await send(client, task_id, name)
        assert why().reason == Reason.SIGNAL_UNKNOWN
    await client.cancel(task_id)


async def test_a_payload_has_a_limit(client):
    task_id = await client.create(APPROVAL, 1)
    request = pb.SignalTaskRequest(task_id=task_id, name="approved")
    request.payload.data = b'"' + b"x" * 1024 * 1024 + b'"'
    async with refused() as why:
        await client.call("SignalTask", request)
    assert why().reason == Reason.PAYLOAD_TOO_LARGE
    request.payload.data, request.payload.content_type = b"x", "text/plain"
    async with refused() as why:
        await client.call("SignalTask", request)
    assert [fault.field for fault in why().faults] == ["payload.content_type"]
    await client.cancel(task_id)


@pytest.mark.parametrize("method", ["PauseTask", "ResumeTask", "SignalTask", "ForkTask"])
async def test_another_tenants_task_is_not_found(client, shared_mesh, method):
    task_id = await client.create(ASLEEP)
    request = getattr(pb, f"{method}Request")(task_id=task_id)
    async with refused() as why:
        await shared_mesh.client.of(f"tenant-{uuid.uuid4().hex[:12]}").call(method, request)
    assert why().reason == Reason.TASK_NOT_FOUND
    await client.cancel(task_id)


async def test_a_retry_is_done_once_by_its_request_id(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    task_id = await client.create(
        graph(python("step", "need_file", retry=NO_RETRY)),
        {"path": str(path), "needs": str(needs), "result": 1},
    )
    assert state_of(await client.wait(task_id)) == "FAILED"
    await client.retry(task_id, request_id="again")
    assert state_of(await client.wait(task_id)) == "FAILED"
    assert state_of(await client.retry(task_id, request_id="again")) == "FAILED"
    assert noted(path) == ["step 1", "step 2"]
    needs.touch()
    await client.retry(task_id)
    assert output_of(await client.wait(task_id)) == 1
    async with refused() as why:
        await client.retry(task_id)
    assert why().reason == Reason.TASK_STATE_CONFLICT


async def test_a_task_that_was_compensated_is_not_retried(client, tmp_path):
    path = tmp_path / "notes"
    undo = {"python": {"function": "test.note"}, "input": "input"}
    task_id = await client.create(
        graph(
            python("book", "note", input="input", compensation=undo),
            python("fail", "fail_permanently", depends_on=["book"]),
        ),
        {"path": str(path)},
    )
    task = await client.wait(task_id)
    assert state_of(task) == "FAILED"
    assert [step.step_id for step in task.steps][-1].startswith("~undo")
    async with refused() as why:
        await client.retry(task_id, request_id="r")
    assert why().reason == Reason.TASK_STATE_CONFLICT
    assert "compensated" in str(why())
    assert state_of(steps_of(await client.get(task_id))["book"]) == "SUCCEEDED"
