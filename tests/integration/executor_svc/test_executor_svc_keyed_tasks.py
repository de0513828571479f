"""Tasks with a concurrency key, as their owner sees them."""

from datetime import UTC, datetime, timedelta

import pytest

from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    create_request,
    graph,
    output_of,
    python,
    state_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import fork, pause, resume, send, until_state

KEY = "'one at a time'"
QUEUE = graph_pb2.CONCURRENCY_POLICY_QUEUE
CANCEL_NEWEST = graph_pb2.CONCURRENCY_POLICY_CANCEL_NEWEST


def asking():
    what = graph({"name": "ask", "wait_signal": {"name": "go"}})
    what.concurrency.key = "input.user"
    return what


def holding():
    what = graph({"name": "ask", "wait_signal": {"name": "go"}})
    what.concurrency.key = KEY
    return what


def failing(policy=QUEUE):
    what = graph(
        python("before", "note", input="input"),
        python("step", "need_file", input="input", retry=NO_RETRY, depends_on=["before"]),
    )
    what.concurrency.key, what.concurrency.policy = KEY, policy
    return what


async def hold(client):
    """Begin a task that has the key's only place."""
    task_id = await client.create(holding())
    await client.until(task_id, "ask", "WAITING")
    return task_id


async def test_one_waits_for_the_other(client):
    first = await client.create(asking(), {"user": "ada"})
    await client.until(first, "ask", "WAITING")
    request = create_request(asking(), {"user": "ada"})
    second = (await client.call("CreateTask", request)).task
    assert state_of(second) == "WAITING"
    other = await client.create(asking(), {"user": "bob"})
    await client.until(other, "ask", "WAITING")
    assert state_of(await client.step(second.task_id, "ask")) == "BLOCKED"
    await send(client, first, "go", 1)
    assert output_of(await client.wait(first)) == 1
    await client.until(second.task_id, "ask", "WAITING")
    await client.cancel(second.task_id)
    await client.cancel(other)


def nested(levels, *, most=1):
    """A task whose subtask, so many levels below it, needs a place under the same key."""
    what = graph(transform("inner", "'done'"))
    what.concurrency.key, what.concurrency.max_running = KEY, most
    for _ in range(levels):
        what = graph({"name": "sub", "subtask": {"graph": what}, "retry": NO_RETRY})
    what.concurrency.key, what.concurrency.max_running = KEY, most
    return what


@pytest.mark.parametrize("levels", [1, 2])
async def test_a_subtask_does_not_wait_for_the_place_of_the_task_that_waits_for_it(client, levels):
    task = await client.run(nested(levels))
    assert state_of(task) == "FAILED"
    assert task.failure.reason == Reason.SUBTASK_FAILED
    assert f"the concurrency key {KEY[1:-1]!r}" in task.failure.message
    # Nothing is left that holds the key.
    assert output_of(await client.run(nested(0))) == "done"
    # Where there is a place for both, nothing is wrong.
    assert output_of(await client.run(nested(levels, most=2))) == "done"


async def test_of_tasks_that_all_wait_for_subtasks_of_their_key_one_fails(client):
    made = [await client.create(nested(1, most=2)) for _ in range(2)]
    ended = [await client.wait(task_id) for task_id in made]
    assert "SUCCEEDED" in [state_of(task) for task in ended]
    assert {task.failure.reason for task in ended} <= {"", Reason.SUBTASK_FAILED}


async def test_a_task_that_waits_for_its_key_is_paused_and_resumed(client):
    first = await client.create(asking(), {"user": "ada"})
    await client.until(first, "ask", "WAITING")
    second = await client.create(asking(), {"user": "ada"})
    assert state_of(await pause(client, second)) == "PAUSED"
    assert state_of(await resume(client, second)) == "WAITING"
    assert state_of(await client.step(second, "ask")) == "BLOCKED"
    await client.cancel(first)
    await client.until(second, "ask", "WAITING")
    await client.cancel(second)


async def test_a_retry_waits_for_its_key(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    value = {"path": str(path), "needs": str(needs), "result": 1}
    task_id = await client.create(failing(), value)
    assert state_of(await client.wait(task_id)) == "FAILED"
    holder_id = await hold(client)
    needs.touch()
    assert state_of(await client.retry(task_id)) == "WAITING"
    assert noted(path) == ["before 1", "step 1"]
    await client.cancel(holder_id)
    assert output_of(await client.wait(task_id)) == 1
    assert noted(path) == ["before 1", "step 1", "step 2"]


async def test_a_retry_is_not_cancelled_as_the_newest(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    value = {"path": str(path), "needs": str(needs), "result": 1}
    task_id = await client.create(failing(CANCEL_NEWEST), value)
    assert state_of(await client.wait(task_id)) == "FAILED"
    holder_id = await hold(client)
    needs.touch()
    await client.retry(task_id)
    # A new one is.
    newest = await client.create(failing(CANCEL_NEWEST), value)
    assert state_of(await client.wait(newest)) == "CANCELLED"
    assert state_of(await client.get(task_id)) == "WAITING"
    await client.cancel(holder_id)
    assert state_of(await client.wait(task_id)) == "SUCCEEDED"


async def test_a_fork_waits_for_its_key(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    value = {"path": str(path), "needs": str(needs), "result": 1}
    task_id = await client.create(failing(), value)
    assert state_of(await client.wait(task_id)) == "FAILED"
    holder_id = await hold(client)
    needs.touch()
    made = await fork(client, task_id, "step")
    assert state_of(made) == "WAITING"
    await client.cancel(holder_id)
    assert output_of(await client.wait(made.task_id)) == 1
    assert noted(path) == ["before 1", "step 1", "step 1"]


async def test_a_task_that_starts_later_asks_for_its_key_then(client):
    # Late enough for the other one to have the key before, on a busy machine as well.
    begin = datetime.now(UTC) + timedelta(seconds=2)
    later = await client.create(
        asking(),
        {"user": "ada"},
        start_after={"seconds": int(begin.timestamp()), "nanos": begin.microsecond * 1000},
    )
    first = await client.create(asking(), {"user": "ada"})
    await client.until(first, "ask", "WAITING")
    assert state_of(await client.step(later, "ask")) == "BLOCKED"
    await client.cancel(first)
    step = await client.until(later, "ask", "WAITING")
    assert step.waits_for == "signal:go"
    assert (await until_state(client, later, "WAITING")).start_time.ToDatetime(UTC) >= begin
    await client.cancel(later)
