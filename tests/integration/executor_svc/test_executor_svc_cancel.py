"""Cancelling tasks."""

import pytest

from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    graph,
    python,
    refused,
    state_of,
    steps_of,
    transform,
)


async def test_a_running_function_is_stopped(client, tmp_path):
    path = tmp_path / "notes"
    task_id = await client.create(
        graph(
            python("slow", "await_file"),
            transform("after", "1", depends_on=["slow"]),
            transform("other", "1"),
        ),
        {"path": str(path), "awaits": str(tmp_path / "never")},
    )
    await eventually(lambda: noted(path) == ["slow 1"])
    await client.until(task_id, "other", "SUCCEEDED")
    cancelled = await client.cancel(task_id)
    assert state_of(cancelled) == "CANCELLED"
    await eventually(lambda: noted(path) == ["slow 1", "cancelled"])
    steps = steps_of(await client.wait(task_id))
    assert {name: state_of(step) for name, step in steps.items()} == {
        "slow": "CANCELLED",
        "other": "SUCCEEDED",
    }
    assert (await client.history(task_id))[-1] == "TASK_CANCELLED"


async def test_a_result_that_comes_too_late_is_refused(client, tmp_path):
    """A function in a thread cannot be stopped; what it returns is not recorded."""
    path, go = tmp_path / "notes", tmp_path / "go"
    task_id = await client.create(
        graph(python("slow", "block_until_file")), {"path": str(path), "awaits": str(go)}
    )
    await eventually(lambda: noted(path) == ["slow 1"])
    cancelled = await client.cancel(task_id)
    go.touch()
    # A step behind it in the same worker's order of work.
    await client.run(graph(transform("a", "1")))
    task = await client.get(task_id)
    assert state_of(task) == "CANCELLED"
    assert state_of(task.steps[0]) == "CANCELLED"
    assert task.last_cursor == cancelled.last_cursor


async def test_cancel_twice_is_once(client, tmp_path):
    task_id = await client.create(
        graph(python("slow", "await_file")),
        {"path": str(tmp_path / "notes"), "awaits": str(tmp_path / "never")},
    )
    first = await client.cancel(task_id, request_id="c")
    assert await client.cancel(task_id, request_id="c") == first


async def test_cancel_before_any_worker(mesh):
    task_id = await mesh.client.create(
        graph(transform("a", "1"), transform("b", "value", depends_on=["a"]))
    )
    await mesh.client.cancel(task_id)
    async with mesh.worker():
        later = await mesh.client.run(graph(transform("a", "1")))
        assert state_of(later) == "SUCCEEDED"
    task = await mesh.client.get(task_id)
    assert state_of(task) == "CANCELLED"
    assert not task.HasField("start_time")
    assert [state_of(step) for step in task.steps] == ["CANCELLED"]


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_an_ended_task_is_not_changed(client, verb):
    task = await client.run(graph(transform("a", "1")))
    async with refused() as why:
        await getattr(client, verb)(task.task_id)
    assert why().reason == Reason.TASK_STATE_CONFLICT
    assert why().metadata == {"task_id": task.task_id, "state": "SUCCEEDED", "verb": verb}


async def test_a_failed_task_cannot_be_cancelled(client):
    task = await client.run(graph(python("bad", "fail_permanently")))
    async with refused() as why:
        await client.cancel(task.task_id)
    assert why().metadata["state"] == "FAILED"


async def test_the_items_of_a_cancelled_task_end_too(client, tmp_path):
    path = tmp_path / "notes"
    value = {"path": str(path), "awaits": str(tmp_path / "never")}
    task_id = await client.create(
        graph(python("each", "await_file", for_each="input")), [value] * 5
    )
    await eventually(lambda: len(noted(path)) == 5)
    await client.cancel(task_id)
    await eventually(lambda: noted(path).count("cancelled") == 5)
    task = await client.get(task_id)
    assert {state_of(step) for step in task.steps} == {"CANCELLED"}
