"""A step whose schedule_to_close is over ends, whether a worker comes or not."""

from datetime import timedelta
from typing import Any

import pytest

from executor_svc.engine.outcomes import Expanded, Waits
from executor_svc.engine.records import Phase
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason
from stepwire.sdk.functions import AddedSteps, step
from tests.integration.executor_svc.executor_mesh import (
    Mesh,
    graph,
    output_of,
    python,
    refused,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.queue_client import queue_client
from tests.integration.executor_svc.task_verbs import pause, resume
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    OUTPUT,
    Record,
    ready,
    transition_record,
)

__all__ = ["transition_record"]

SOON = {"nanos": 200_000_000}
HOUR = {"seconds": 3600}
HOLD = {"path": "/dev/null", "awaits": "/nowhere"}
NARROW = {"key": "'expiry'", "max_running": 1}


@step("test.expiry.add_unserved")
def add_unserved(_: Any) -> AddedSteps:
    """Add a step that no worker serves, and one behind it."""
    return AddedSteps(
        graph(transform("unserved", "1", queue="gpu"), transform("b", "1", depends_on=["unserved"]))
    )


async def test_a_step_that_no_worker_serves_ends_and_what_can_goes_on(mesh: Mesh) -> None:
    what = graph(
        transform("unserved", "1", queue="gpu", schedule_to_close=SOON),
        transform("after", "states", depends_on=["unserved"], join={"mode": "JOIN_MODE_ALL_DONE"}),
    )
    async with mesh.worker(queues=("default",)):
        task = await mesh.client.run(what)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", {"unserved": "FAILED"})
    assert steps_of(task)["unserved"].failure.reason == Reason.STEP_TIMED_OUT
    # Nobody has started it.
    assert await mesh.client.history(task.task_id) == [
        "TASK_CREATED",
        "TASK_STARTED",
        "STEP_FAILED unserved 1",
        "STEP_STARTED after 1",
        "STEP_SUCCEEDED after 1",
        "TASK_SUCCEEDED",
    ]


async def test_without_any_worker_a_task_ends(mesh: Mesh) -> None:
    """So does one whose queue is paused."""
    async with queue_client(mesh) as queues:
        await queues.call("PauseQueue", queue="llm")
        for queue in ("gpu", "llm"):
            what = graph(transform("a", "1", queue=queue, schedule_to_close=SOON))
            task = await mesh.client.run(what)
            assert (state_of(task), task.failure.reason) == ("FAILED", Reason.STEP_TIMED_OUT)
            assert task.failure.step_id == "a"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("sleep", {"sleep": {"until": "3600"}}),
        ("limit", {"transform": {"expression": "1"}, "limit": NARROW}),
        ("function", {"python": {"function": "nobody.knows.it"}}),
    ],
)
async def test_every_wait_ends_with_schedule_to_close(mesh: Mesh, name: str, what: Any) -> None:
    async with mesh.worker(queues=("default",), function_wait_seconds=3600):
        if name == "limit":
            holds = await mesh.client.create(graph(python("h", "await_file", limit=NARROW)), HOLD)
            await mesh.client.until(holds, "h", "RUNNING")
        task = await mesh.client.run(graph({"name": "a", "schedule_to_close": SOON, **what}))
        assert (state_of(task), task.failure.reason) == ("FAILED", Reason.STEP_TIMED_OUT)
        assert steps_of(task).keys() == {"a"}


async def add_and_expire(mesh: Mesh) -> task_pb2.Task:
    """Run a step that adds others and expires; with more time where it could not add them."""
    for seconds in (1, 5, 25):
        step = python("a", "expiry.add_unserved", schedule_to_close={"seconds": seconds})
        task = await mesh.client.run(graph(step))
        assert (state_of(task), task.failure.reason) == ("FAILED", Reason.STEP_TIMED_OUT)
        if len(task.steps) > 1:
            return task
    pytest.fail("nothing was added in time")


async def test_a_retry_takes_up_what_an_expired_step_has_added(mesh: Mesh) -> None:
    async with mesh.worker(queues=("default",)):
        failed = await add_and_expire(mesh)
        assert [state_of(each) for each in failed.steps if each.step_id != "a"] == ["CANCELLED"]
        async with mesh.worker(queues=("gpu",)):
            await mesh.client.retry(failed.task_id)
            task = await mesh.client.wait(failed.task_id)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", 1)
    assert steps_of(task)["a/unserved"].attempt == 2


async def test_a_paused_task_keeps_its_steps_until_it_goes_on(mesh: Mesh) -> None:
    what = graph(
        transform("ready", "1", queue="gpu", schedule_to_close=HOUR),
        {"name": "sleeps", "sleep": {"until": "7200"}, "schedule_to_close": HOUR},
    )
    async with mesh.worker(queues=("default",)):
        task_id = await mesh.client.create(what)
        await mesh.client.until(task_id, "sleeps", "WAITING")
        await pause(mesh.client, task_id)
        await mesh.fetch(
            "UPDATE executor.steps SET expires_at = now(),"
            " due_at = CASE WHEN state = 'WAITING' THEN now() END"
        )
        await mesh.client.until(task_id, "sleeps", "BLOCKED")
        assert state_of(await mesh.client.get(task_id)) == "PAUSED"
        await resume(mesh.client, task_id)
        assert (await mesh.client.wait(task_id)).failure.reason == Reason.STEP_TIMED_OUT


async def test_a_retry_gives_what_was_held_its_time_anew(record: Record) -> None:
    lifetime = {"schedule_to_close": HOUR}
    compiled, task = await record.task(
        transform("bad", "1"),
        transform("held", "1", **lifetime),
        transform("items", "1", for_each="[1]", **lifetime),
    )
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "items", outcome=Expanded([b"1"]))
    await record.run(session_id, compiled, task.task_id, "held", outcome=Waits("sleep", until=None))
    await record.run(session_id, compiled, task.task_id, "bad", outcome=FAILURE)
    await record.pool.execute(
        "UPDATE executor.steps SET expires_at = now() - interval '1 s',"
        " due_at = CASE WHEN state = 'WAITING' THEN now() - interval '1 s' END"
        " WHERE lifetime IS NOT NULL"
    )
    assert not (await record.sweep.wake_due()).ready
    assert await record.state(task.task_id, "items") == "WAITING"
    assert ready(await record.retry(task.task_id)) == {("bad", 2), ("held", 2), ("items[0]", 1)}
    (held,) = await record.claim(session_id, task.task_id, "held", attempt=2)
    assert held.phase is Phase.NEW
    left = await record.pool.fetch(
        "SELECT step_id FROM executor.steps WHERE lifetime IS NOT NULL"
        " AND (expires_at IS NULL OR expires_at < now() + interval '59 min')"
    )
    assert left == []


async def test_a_wait_that_begins_when_its_time_is_over_ends_at_once(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1", for_each="[1]", schedule_to_close=HOUR),
        transform("b", "1", schedule_to_close=HOUR),
    )
    session_id = await record.session()
    a, b = await record.claim(session_id, task.task_id, "a", "b")
    await record.pool.execute("UPDATE executor.steps SET expires_at = now() - interval '1 s'")
    await record.settle(session_id, compiled, [a], Expanded([b"1"]))
    # Only who knows the graph can say what the end of this one means.
    await record.settle(session_id, compiled, [b], Waits("worker", wait=timedelta(hours=1)))
    assert ready(await record.sweep.wake_due()) == {("a", 1)}
    (again,) = await record.claim(session_id, task.task_id, "a")
    assert again.phase is Phase.EXPIRED


async def test_an_item_that_ends_leaves_its_step_the_time_it_has(record: Record) -> None:
    """Else the step would end well without the items that are still under way."""
    compiled, task = await record.task(
        transform("items", "1", for_each="[1, 2]", schedule_to_close=HOUR)
    )
    session_id = await record.session()
    both = Expanded([b"1", b"2"])
    await record.run(session_id, compiled, task.task_id, "items", outcome=both)
    await record.run(session_id, compiled, task.task_id, "items[0]")
    await record.pool.execute(
        "UPDATE executor.steps SET expires_at = expires_at - interval '1 h',"
        " due_at = due_at - interval '1 h' WHERE step_id = 'items'"
    )
    assert ready(await record.sweep.wake_due()) == {("items", 1)}
    (again,) = await record.claim(session_id, task.task_id, "items")
    assert again.phase is Phase.EXPIRED


async def test_what_another_has_in_hand_is_not_ended_twice(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1", schedule_to_close=HOUR))
    assert await record.sweep.expired([]) == []
    await record.pool.execute("UPDATE executor.steps SET expires_at = now() - interval '1 s'")
    (found,) = await record.sweep.expired([])
    assert await record.sweep.expired([found.graph_hash]) == []
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")

    def decide(_: Any) -> Any:
        raise AssertionError("nobody may decide it")

    count, _ = await record.sweep.expire([found.ref], decide)
    assert count == 0
    settled, _ = await record.settle(session_id, compiled, attempts, OUTPUT)
    assert settled.accepted == [True]


async def test_a_wait_that_can_only_be_cut_off_is_refused(mesh: Mesh) -> None:
    sleeps = graph({"name": "a", "sleep": {"duration": HOUR}})
    for span, is_refused in ((3600, True), (3601, False)):
        request = pb.CreateTaskRequest(graph=sleeps, timeout={"seconds": span})
        if is_refused:
            async with refused() as why:
                await mesh.client.call("CreateTask", request)
            assert [fault.field for fault in why().faults] == ["timeout"]
        else:
            await mesh.client.call("CreateTask", request)
