"""Tasks and their subtasks."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from executor_svc.store import PostgresTaskStore
from executor_svc.tasks.family import Family
from executor_svc.waking.announce import Announcer
from executor_svc.waking.relay import Notice
from stepwire.api.executor.v1 import graph_pb2
from stepwire.db import open_pool
from stepwire.ids import uuid7
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    graph,
    output_of,
    python,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import find, pause, resume, send, until_state

ASKING = graph({"name": "ask", "wait_signal": {"name": "go"}})


def around(inner: graph_pb2.Graph, **fields) -> graph_pb2.Graph:
    """A graph that runs another one, and what comes behind it."""
    step = {"name": "child", "subtask": {"graph": inner}, **fields}
    return graph(step, transform("after", "value", depends_on=["child"]))


async def child_of(client, task_id):
    """The subtask that a task waits for."""
    step = await client.until(task_id, "child", "WAITING")
    kind, _, child_id = step.waits_for.partition(":")
    assert kind == "task"
    return child_id


async def test_a_subtask_gives_the_step_its_output(client):
    task = await client.run(around(graph(transform("double", "value * 2"))), 21)
    assert output_of(task) == 42
    (child_id,) = set(await find(client)) - {task.task_id}
    child = await client.get(child_id)
    assert (child.parent_task_id, child.parent_step_id) == (task.task_id, "child")
    assert state_of(child) == "SUCCEEDED"


async def test_a_parent_waits_without_holding_anything(client):
    task_id = await client.create(around(ASKING))
    child_id = await child_of(client, task_id)
    assert state_of(await client.get(task_id)) == "WAITING"
    await send(client, child_id, "go", "gone")
    assert output_of(await client.wait(task_id)) == "gone"


async def test_a_subtask_is_cancelled_with_its_parent(client):
    task_id = await client.create(around(around(ASKING)))
    child_id = await child_of(client, task_id)
    grandchild_id = await child_of(client, child_id)
    await client.cancel(task_id)
    for each in (child_id, grandchild_id):
        await until_state(client, each, "CANCELLED")


async def test_a_subtask_that_is_cancelled_fails_its_parent(client):
    task_id = await client.create(around(ASKING, retry=NO_RETRY))
    child_id = await child_of(client, task_id)
    await client.cancel(child_id)
    task = await client.wait(task_id)
    assert task.failure.reason == "SUBTASK_FAILED"
    assert task.failure.metadata["task_id"] == child_id


async def test_a_subtask_that_fails_fails_its_parent(client):
    failing = graph(python("f", "fail_permanently"))
    task = await client.run(around(failing, retry=NO_RETRY))
    assert task.failure.reason == "SUBTASK_FAILED"
    assert state_of(steps_of(task)["child"]) == "FAILED"


async def test_a_parent_that_is_paused_hears_of_it_when_it_goes_on(client):
    task_id = await client.create(around(ASKING))
    child_id = await child_of(client, task_id)
    await pause(client, task_id)
    await send(client, child_id, "go", 1)
    assert state_of(await client.wait(child_id)) == "SUCCEEDED"
    await client.until(task_id, "child", "BLOCKED")
    await resume(client, task_id)
    assert output_of(await client.wait(task_id)) == 1


class Silent(Announcer):
    """Keeps what would be announced."""

    def __init__(self):
        self.announced = []

    def announce(self, effects, **_):
        self.announced.append(effects)


async def test_a_notice_may_come_twice(mesh):
    """The one who carried it out may have died before it could say so."""
    client = mesh.client
    async with mesh.worker():
        task_id = await client.create(around(ASKING))
        child_id = await child_of(client, task_id)
        parent = {"parent_task_id": task_id, "parent_step_id": "child"}
        announcer = Silent()
        async with open_pool(mesh.database_url, application_name="test") as pool:
            store = PostgresTaskStore(pool, republish_after=timedelta(minutes=1), inline_bytes=0)
            family = Family(store, announcer)
            # Of a subtask that the step does not wait for.
            await family.wake_parent(notice("parent", str(uuid7()), parent))
            assert state_of(await client.step(task_id, "child")) == "WAITING"
            for _ in range(2):
                await family.cancel_child(notice("cancel_child", task_id, {"child": child_id}))
            assert [len(each.events) for each in announcer.announced] == [0, 1]
            task = await client.wait(task_id)
            for _ in range(2):
                await family.wake_parent(notice("parent", child_id, parent))
        assert await client.get(task_id) == task


def notice(kind, task_id, payload):
    return Notice(1, kind, "default", UUID(task_id), payload, datetime.now(UTC))
