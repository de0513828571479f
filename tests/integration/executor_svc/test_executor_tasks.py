"""Tasks from creation to their end, over real Postgres and RabbitMQ."""

import json

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2, task_pb2
from stepwire.payload import value_to_json


def chain(length: int) -> graph_pb2.Graph:
    graph = graph_pb2.Graph()
    for place in range(length):
        step = graph.steps.add(name=f"s{place}", transform={"expression": "value + 1"})
        if place:
            step.depends_on.append(f"s{place - 1}")
    return graph


async def run(mesh, graph, value=None, **fields):
    request = pb.CreateTaskRequest(graph=graph, **fields)
    request.input.data = json.dumps(value).encode()
    created = await mesh.executor.CreateTask(request)
    waited = await mesh.executor.WaitTask(pb.WaitTaskRequest(task_id=created.task.task_id))
    return waited.task


async def test_a_chain_runs_to_its_end(mesh):
    async with mesh.start_worker():
        task = await run(mesh, chain(5), 1)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
        assert value_to_json(task.output.json) == 6


async def test_fan_out_and_join(mesh):
    graph = graph_pb2.Graph()
    graph.steps.add(name="list", transform={"expression": "[1, 2, 3, 4]"})
    graph.steps.add(
        name="double",
        depends_on=["list"],
        for_each="steps.list",
        transform={"expression": "item * 2"},
    )
    graph.steps.add(name="other", transform={"expression": "10"})
    graph.steps.add(
        name="sum",
        depends_on=["double", "other"],
        transform={"expression": "steps.double.map(x, x + steps.other)"},
    )
    async with mesh.start_worker():
        task = await run(mesh, graph)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
        assert value_to_json(task.output.json) == [12, 14, 16, 18]


@pytest.mark.parametrize("after", [0, 3])
async def test_a_watcher_sees_every_event_in_order(mesh, after):
    async with mesh.start_worker():
        task = await run(mesh, chain(3), 1)
    watch = mesh.executor.WatchTask(
        pb.WatchTaskRequest(task_id=task.task_id, after_cursor=after)
    )
    events = [response.event async for response in watch]
    assert [event.cursor for event in events] == list(range(after + 1, task.last_cursor + 1))
    assert events[-1].type == task_pb2.TASK_EVENT_TYPE_TASK_SUCCEEDED
