"""The verbs of a task's owner, for tests."""

import json
from collections.abc import Mapping
from typing import Any

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import WAIT_SECONDS, Client, state_of


async def pause(client: Client, task_id: str, **fields: Any) -> task_pb2.Task:
    request = pb.PauseTaskRequest(task_id=task_id, **fields)
    task: task_pb2.Task = (await client.call("PauseTask", request)).task
    return task


async def resume(client: Client, task_id: str, **fields: Any) -> task_pb2.Task:
    request = pb.ResumeTaskRequest(task_id=task_id, **fields)
    task: task_pb2.Task = (await client.call("ResumeTask", request)).task
    return task


async def send(
    client: Client, task_id: str, name: str, payload: Any = None, **fields: Any
) -> task_pb2.Task:
    request = pb.SignalTaskRequest(task_id=task_id, name=name, **fields)
    request.payload.data = json.dumps(payload).encode()
    task: task_pb2.Task = (await client.call("SignalTask", request)).task
    return task


async def fork(client: Client, task_id: str, from_step: str, **fields: Any) -> task_pb2.Task:
    request = pb.ForkTaskRequest(task_id=task_id, from_step=from_step, **fields)
    task: task_pb2.Task = (await client.call("ForkTask", request)).task
    return task


async def bulk(
    client: Client, action: str, wanted: Mapping[str, Any], **fields: Any
) -> pb.BulkUpdateTasksResponse:
    request = pb.BulkUpdateTasksRequest(
        filter=pb.TaskFilter(**wanted),
        action=pb.TaskAction.Value(f"TASK_ACTION_{action}"),
        **fields,
    )
    response: pb.BulkUpdateTasksResponse = await client.call("BulkUpdateTasks", request)
    return response


async def find(client: Client, **wanted: Any) -> list[str]:
    request = pb.ListTasksRequest(filter=pb.TaskFilter(**wanted))
    return [task.task_id for task in (await client.call("ListTasks", request)).tasks]


async def until_state(client: Client, task_id: str, state: str) -> task_pb2.Task:
    """Wait until a task is in a state."""

    async def reached() -> task_pb2.Task | None:
        task = await client.get(task_id)
        return task if state_of(task) == state else None

    task = await eventually(reached, WAIT_SECONDS)
    assert task is not None
    return task
