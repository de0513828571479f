"""Tasks and their subtasks."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc import worker
from executor_svc.store import PostgresTaskStore
from executor_svc.tasks.family import Family
from executor_svc.waking.announce import Announcer
from executor_svc.waking.relay import Notice
from executor_svc.work.subtasks import RecordSubtasks
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


@pytest.mark.parametrize(
    ("inner", "fields"),
    [
        # One item is enough, and one of the subtasks need not wait.
        (
            graph(
                {"name": "ask", "when": "input > 0", "wait_signal": {"name": "go"}},
                transform("skipped", "1", depends_on=["ask"]),
            ),
            {"for_each": "[0, 1]", "input": "item", "items_join": {"mode": "JOIN_MODE_ANY"}},
        ),
        (ASKING, {"schedule_to_close": {"nanos": 300_000_000}}),
    ],
    ids=["pruned", "expired"],
)
async def test_a_subtask_is_cancelled_when_nobody_waits_for_it_any_more(client, inner, fields):
    task = await client.run(around(inner, **fields))
    children = set(await find(client)) - {task.task_id}
    left = set(children)
    if "for_each" in fields:
        assert (state_of(task), len(children)) == ("SUCCEEDED", 2)
        left = {each for each in children if state_of(await client.get(each)) != "SUCCEEDED"}
    assert len(left) == 1
    await until_state(client, left.pop(), "CANCELLED")


async def test_a_task_that_is_too_late_takes_its_subtasks_with_it(mesh):
    client, what = mesh.client, around(ASKING)
    what.timeout.seconds = 3600
    async with mesh.worker():
        task_id = await client.create(what)
        child_id = await child_of(client, task_id)
        await mesh.fetch("UPDATE executor.deadlines SET deadline = now() - interval '1 s'")
        assert (await client.wait(task_id)).failure.reason == "TASK_TIMED_OUT"
        await until_state(client, child_id, "CANCELLED")
        # It goes on with another one.
        await client.retry(task_id)
        again = await child_of(client, task_id)
        assert again != child_id
        await send(client, again, "go", 1)
        assert output_of(await client.wait(task_id)) == 1


async def test_a_task_whose_subtask_has_failed_is_retried_with_another_one(client, tmp_path):
    needs = tmp_path / "needed"
    value = {"path": str(tmp_path / "notes"), "needs": str(needs), "result": 7}
    inner = graph(python("n", "need_file", retry=NO_RETRY))
    task = await client.run(around(inner, retry=NO_RETRY), value)
    assert task.failure.reason == "SUBTASK_FAILED"
    needs.touch()
    await client.retry(task.task_id)
    assert output_of(await client.wait(task.task_id)) == 7


async def test_a_subtask_is_cancelled_whose_step_was_cancelled_while_it_began(mesh, monkeypatch):
    """Its worker stops the attempt before that can tell for what it waits."""
    client = mesh.client

    class Stopped(RecordSubtasks):
        async def start(self, *arguments):
            await super().start(*arguments)
            await client.cancel(task_id)
            await asyncio.Event().wait()

    monkeypatch.setattr(worker, "RecordSubtasks", Stopped)
    task_id = await client.create(around(ASKING))
    async with mesh.worker():
        await until_state(client, task_id, "CANCELLED")
        (child_id,) = set(await find(client)) - {task_id}
        await until_state(client, child_id, "CANCELLED")


async def test_a_subtask_that_is_retried_before_its_parent_looks_is_waited_for(
    mesh, monkeypatch, tmp_path
):
    client, needs = mesh.client, tmp_path / "needed"

    class Retrying(RecordSubtasks):
        async def read(self, parent, child_id):
            if not needs.exists():
                needs.touch()
                await client.retry(str(child_id))
            return await super().read(parent, child_id)

    monkeypatch.setattr(worker, "RecordSubtasks", Retrying)
    value = {"path": str(tmp_path / "notes"), "needs": str(needs), "result": 7}
    inner = graph(python("n", "need_file", retry=NO_RETRY))
    async with mesh.worker(slots=1):
        task = await client.run(around(inner, retry=NO_RETRY), value)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", 7)


async def test_an_attempt_finds_the_subtask_of_one_that_never_knew_of_it(
    mesh, monkeypatch, tmp_path
):
    """Whatever became of that one, and whatever each of them was given by an early join."""
    go = tmp_path / "go"
    what = graph(
        python("quick", "echo"),
        python("slow", "await_file"),
        {
            "name": "child",
            "subtask": {"graph": graph(transform("same", "value"))},
            "depends_on": ["quick", "slow"],
            "join": {"mode": "JOIN_MODE_ANY"},
            "input": "steps.slow",
        },
        transform("both", "steps.child", depends_on=["child", "slow"]),
    )
    value = {"path": str(tmp_path / "notes"), "awaits": str(go), "result": 1}
    client = mesh.client

    class Dying(RecordSubtasks):
        async def start(self, *arguments):
            child_id = await super().start(*arguments)
            if go.exists():
                return child_id
            go.touch()
            await client.until(task_id, "slow", "SUCCEEDED")
            raise ConnectionError("what came of it is not known")

    monkeypatch.setattr(worker, "RecordSubtasks", Dying)
    task_id = await client.create(what, value)
    async with mesh.worker():
        task = await client.wait(task_id)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", None)
    assert steps_of(task)["child"].attempt == 2
    assert len(await find(client)) == 2


async def test_what_a_compensated_task_waits_for_is_cancelled(client):
    undone = transform("kept", "1", compensation={"python": {"function": "test.echo"}})
    what = graph(
        undone,
        {"name": "child", "subtask": {"graph": ASKING}},
        python("bad", "fail_permanently", depends_on=["nap"]),
        {"name": "nap", "wait_signal": {"name": "fail"}},
    )
    task_id = await client.create(what)
    child_id = await child_of(client, task_id)
    await send(client, task_id, "fail", 1)
    assert state_of(await client.wait(task_id)) == "FAILED"
    await until_state(client, child_id, "CANCELLED")


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
