"""Tasks that name a workflow instead of carrying a graph."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_rpc_error
from tests.integration.executor_svc.executor_mesh import (
    Client,
    Mesh,
    chain,
    graph,
    held_steps,
    output_of,
    refused,
    state_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import bulk, find
from tests.integration.executor_svc.workflow_client import WorkflowClient, workflow_client


@pytest.fixture
async def workflows(shared_mesh: Mesh, client: Client) -> AsyncIterator[WorkflowClient]:
    """The workflows of the tenant of `client`."""
    async with workflow_client(shared_mesh.server.address, client.tenant) as workflows:
        yield workflows


def task_of(name: str, version: str = "", value: str = "1", **fields: Any) -> pb.CreateTaskRequest:
    request = pb.CreateTaskRequest(workflow={"name": name, "version": version}, **fields)
    request.input.data = value.encode()
    return request


async def start(client: Client, *args: Any, **fields: Any) -> Any:
    return (await client.call("CreateTask", task_of(*args, **fields))).task


async def test_a_task_runs_the_version_it_names_or_the_newest(client, workflows):
    await workflows.register("flow", chain(1), "one")
    await workflows.register("flow", chain(2), "two")
    for version, wanted, result in (("one", "one", 2), ("two", "two", 3), ("", "two", 3)):
        accepted = await start(client, "flow", version)
        assert (accepted.workflow.name, accepted.workflow.version) == ("flow", wanted)
        task = await client.wait(accepted.task_id)
        assert output_of(task) == result
        assert (task.workflow.name, task.workflow.version) == ("flow", wanted)
    task = await client.run(chain(1), 1)
    assert not task.HasField("workflow")


async def test_a_running_task_keeps_its_version(client, workflows, tmp_path):
    what, value, _, go = held_steps(tmp_path)
    await workflows.register("flow", what)
    running = (await start(client, "flow", value=json.dumps(value))).task_id
    await client.until(running, "held", "WAITING")

    await workflows.register("flow", chain(1))
    await workflows.deprecate("flow", "1")
    newer = await client.wait((await start(client, "flow")).task_id)
    assert (newer.workflow.version, output_of(newer)) == ("2", 2)

    go.touch()
    task = await client.wait(running)
    assert (state_of(task), task.workflow.version) == ("SUCCEEDED", "1")
    assert [step.step_id for step in task.steps if "[" not in step.step_id] == [
        *("before", "held", "after")
    ]


async def test_what_was_used_never_changes(client, workflows):
    await workflows.register("flow", chain(1), "1")
    await start(client, "flow")
    async with refused() as why:
        await workflows.register("flow", chain(2), "1")
    assert why().reason == Reason.WORKFLOW_VERSION_EXISTS
    async with refused() as why:
        await workflows.delete("flow", "1")
    assert why().reason == Reason.WORKFLOW_VERSION_IN_USE
    assert (await workflows.register("flow", chain(1), "1")).HasField("first_use_time")


async def test_only_checking_uses_nothing(client, workflows):
    await workflows.register("flow", chain(1), "1", defaults={"priority": 2})
    checked = await start(client, "flow", validate_only=True)
    assert (checked.task_id, checked.priority, checked.workflow.version) == ("", 2, "1")
    assert not (await workflows.get("flow")).HasField("first_use_time")
    await workflows.register("flow", chain(2), "1")
    async with refused() as why:
        await start(client, "nothing", validate_only=True)
    assert why().reason == Reason.WORKFLOW_NOT_FOUND


async def test_defaults_fill_in_what_the_request_leaves_out(client, workflows):
    defaults = {"labels": {"team": "billing", "kind": "default"}, "priority": 2}
    await workflows.register("flow", chain(1), defaults=defaults)
    task = await client.get((await start(client, "flow")).task_id)
    assert (dict(task.labels), task.priority) == (defaults["labels"], 2)
    named = await start(client, "flow", labels={"kind": "own", "n": "1"}, priority=7)
    task = await client.get(named.task_id)
    assert dict(task.labels) == {"team": "billing", "kind": "own", "n": "1"}
    assert task.priority == 7


async def test_a_repeated_request_gives_its_task_though_the_newest_is_another_by_now(
    client, workflows
):
    await workflows.register("flow", chain(1))
    first = await start(client, "flow", request_id="same")
    await workflows.register("flow", chain(2))
    again = await start(client, "flow", request_id="same")
    assert (again.task_id, again.workflow.version) == (first.task_id, "1")
    async with refused() as why:
        await start(client, "flow", "2", request_id="same")
    assert why().reason == Reason.REQUEST_ID_REUSED


async def test_a_repeated_request_gives_its_task_though_its_version_takes_no_new_ones_by_now(
    client, workflows
):
    await workflows.register("flow", chain(1), "1")
    firsts = [
        await start(client, "flow", version, request_id=f"to {version}") for version in ("", "1")
    ]
    batch = pb.BatchCreateTasksRequest(
        requests=[task_of("flow", version, request_id=f"to {version}") for version in ("", "1")]
    )
    await workflows.deprecate("flow", "1")
    for version, first in zip(("", "1"), firsts, strict=True):
        again = await start(client, "flow", version, request_id=f"to {version}")
        assert (again.task_id, again.workflow.version) == (first.task_id, "1")
    response = await client.call("BatchCreateTasks", batch)
    assert response.task_ids == [first.task_id for first in firsts]
    async with refused() as why:
        await start(client, "flow", "1", value="2", request_id="to 1")
    assert why().reason == Reason.REQUEST_ID_REUSED
    async with refused() as why:
        await start(client, "flow", "1", request_id="another")
    assert why().reason == Reason.WORKFLOW_VERSION_DEPRECATED


async def test_a_repeated_request_gives_its_task_though_the_newest_would_not_take_it_by_now(
    client, workflows
):
    await workflows.register("flow", chain(1))
    firsts = [await start(client, "flow", request_id=name) for name in ("one", "two")]
    keyed = chain(2)
    keyed.concurrency.key = "input.customer"
    await workflows.register("flow", keyed)
    async with refused() as why:
        await start(client, "flow", request_id="another")
    assert why().reason == Reason.FIELD_INVALID
    assert (await start(client, "flow", request_id="one")).task_id == firsts[0].task_id
    requests = [task_of("flow", request_id=name) for name in ("one", "two")]
    response = await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert response.task_ids == [first.task_id for first in firsts]


async def test_a_deprecated_version_takes_no_new_tasks(client, workflows):
    await workflows.register("flow", chain(1), "1")
    await start(client, "flow")
    await workflows.deprecate("flow", "1")
    for version in ("1", ""):
        async with refused() as why:
            await start(client, "flow", version)
        assert why().reason == Reason.WORKFLOW_VERSION_DEPRECATED
        assert why().metadata == {"workflow": "flow", "version": "1"}
    await workflows.set_state("flow", "1", "ACTIVE")
    await start(client, "flow")


async def test_another_tenants_workflow_is_not_there(client, workflows):
    await workflows.register("flow", chain(1))
    other = client.of(f"{client.tenant}-other")
    for version in ("", "1"):
        async with refused() as why:
            await start(other, "flow", version)
        assert why().reason == Reason.WORKFLOW_NOT_FOUND
        assert why().metadata == {"workflow": "flow", "version": version}


@pytest.mark.parametrize(
    ("name", "version", "field"),
    [("", "", "workflow.name"), ("a b", "", "workflow.name"), ("a", "/", "workflow.version")],
)
async def test_a_bad_name_is_refused_with_its_field(client, name, version, field):
    async with refused() as why:
        await start(client, name, version)
    assert [fault.field for fault in why().faults] == [field]


async def test_the_tasks_of_a_workflow_are_listed(client, workflows):
    await workflows.register("flow", chain(1), "1")
    await workflows.register("flow", chain(2), "2")
    await workflows.register("other", chain(1))
    made = [
        (await start(client, name, version, labels={"n": str(place % 2)})).task_id
        for place, (name, version) in enumerate(
            [("flow", "1"), ("other", ""), ("flow", "2"), ("flow", ""), ("flow", "1")]
        )
    ]
    await client.run(chain(1), 1)
    for task_id in made:
        await client.wait(task_id)
    of_flow = [made[place] for place in (4, 3, 2, 0)]
    done = task_pb2.TASK_STATE_SUCCEEDED
    assert await find(client, workflow="flow") == of_flow
    assert await find(client, workflow="flow", state=done) == of_flow
    assert await find(client, workflow="flow", workflow_version="2", state=done) == made[3:1:-1]
    assert await find(client, workflow="flow", labels={"n": "0"}) == [made[4], made[2], made[0]]
    assert await find(client, workflow="flow", state=task_pb2.TASK_STATE_RUNNING) == []
    assert await find(client.of("another"), workflow="flow") == []
    found, token = [], ""
    while len(found) < len(of_flow) or token:
        request = pb.ListTasksRequest(page_size=3, page_token=token)
        request.filter.workflow = "flow"
        page = await client.call("ListTasks", request)
        found += [task.task_id for task in page.tasks]
        token = page.next_page_token
    assert found == of_flow
    response = await bulk(client, "RETRY", {"workflow": "flow", "state": done})
    assert set(response.refused) == set(of_flow)


async def test_a_batch_may_name_workflows(client, workflows):
    await workflows.register("flow", chain(1))
    await workflows.register("flow", chain(2))
    requests = [task_of("flow", version) for version in ("1", "2", "")]
    response = await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    tasks = [await client.wait(task_id) for task_id in response.task_ids]
    assert [task.workflow.version for task in tasks] == ["1", "2", "2"]
    assert [output_of(task) for task in tasks] == [2, 3, 3]
    async with refused() as why:
        await client.call(
            "BatchCreateTasks",
            pb.BatchCreateTasksRequest(requests=[*requests, task_of("nothing")]),
        )
    assert why().reason == Reason.WORKFLOW_NOT_FOUND


async def test_a_subtask_may_name_a_workflow(client, workflows):
    await workflows.register("inner", chain(1), "1")
    what = graph(
        transform("first", "input"),
        {"name": "sub", "depends_on": ["first"], "subtask": {"workflow": {"name": "inner"}}},
    )
    task = await client.run(what, 4)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", 5)
    assert (await workflows.get("inner")).HasField("first_use_time")


async def test_tasks_are_found_by_workflow_and_version(client, workflows):
    await workflows.register("flow", chain(1))
    await workflows.register("flow", chain(2))
    await workflows.register("other", chain(1))
    ids = {
        (name, version): (await start(client, name, version)).task_id
        for name, version in (("flow", "1"), ("flow", "2"), ("other", "1"))
    }
    await client.create(chain(1), 1)
    for conditions, wanted in (
        ({"workflow": "flow"}, {ids["flow", "1"], ids["flow", "2"]}),
        ({"workflow": "flow", "workflow_version": "2"}, {ids["flow", "2"]}),
        ({"workflow": "nothing"}, set()),
    ):
        request = pb.ListTasksRequest(filter=conditions)
        listed = (await client.call("ListTasks", request)).tasks
        assert {task.task_id for task in listed} == wanted


async def test_use_and_change_at_once_never_run_another_graph(shared_mesh, client, workflows):
    """A task under a version runs what the version holds, whoever came first."""
    for number in range(10):
        name = f"flow{number}"
        await workflows.register(name, chain(1), "1")
        *started, changed = await asyncio.gather(
            *(start(client, name, "1") for _ in range(4)),
            workflows.register(name, chain(2), "1"),
            return_exceptions=True,
        )
        if isinstance(changed, BaseException):
            error = from_rpc_error(changed)
            assert isinstance(error, StepwireError)
            assert error.reason == Reason.WORKFLOW_VERSION_EXISTS
        held = (await workflows.get(name, "1")).graph_hash
        rows = await shared_mesh.fetch(
            "SELECT DISTINCT encode(graph_hash, 'hex') AS hash FROM executor.tasks"
            " WHERE task_id = ANY ($1::uuid[])",
            [task.task_id for task in started],
        )
        assert [row["hash"] for row in rows] == [held]
