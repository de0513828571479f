"""What can be said of a task when it is created."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from stepwire.payload import value_to_json
from tests.integration.executor_svc.executor_mesh import (
    chain,
    create_request,
    graph,
    output_of,
    state_of,
    steps_of,
    transform,
)

WAITING = {"name": "wait", "wait_signal": {"name": "go"}}


def seconds_from_now(seconds):
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"seconds": int(moment.timestamp()), "nanos": moment.microsecond * 1000}


@pytest.mark.parametrize(("asked", "priority"), [(0, 5), (1, 1), (9, 9)])
async def test_priorities(client, asked, priority):
    request = create_request(chain(1), 1, priority=asked)
    created = (await client.call("CreateTask", request)).task
    assert created.priority == priority
    assert (await client.wait(created.task_id)).priority == priority


async def test_a_task_starts_no_earlier_than_it_is_told_to(client):
    begin, far = seconds_from_now(0.7), seconds_from_now(3600)
    what = graph(
        transform("a", "1"), transform("b", "2"), transform("c", "3", depends_on=["a", "b"])
    )
    soon = await client.create(what, start_after=begin)
    request = create_request(what, start_after=far)
    created = (await client.call("CreateTask", request)).task
    assert state_of(created) == "WAITING"
    task = await client.get(created.task_id)
    assert state_of(task) == "WAITING"
    waits = {step.step_id: (state_of(step), step.waits_for) for step in task.steps}
    assert waits == {"a": ("WAITING", "start"), "b": ("WAITING", "start"), "c": ("BLOCKED", "")}
    assert steps_of(task)["a"].wait_until.ToMilliseconds() == far["seconds"] * 1000 + (
        far["nanos"] // 1_000_000
    )
    await client.cancel(created.task_id)
    task = await client.wait(soon)
    assert output_of(task) == 3
    assert task.start_time.ToMilliseconds() >= begin["seconds"] * 1000 + begin["nanos"] // 10**6


async def test_a_start_that_has_passed_is_at_once(client):
    request = create_request(chain(1), 1, start_after={"seconds": 1})
    created = (await client.call("CreateTask", request)).task
    assert state_of(created) == "PENDING"
    assert output_of(await client.wait(created.task_id)) == 2


async def test_a_task_that_has_not_started_can_be_cancelled(client):
    task_id = await client.create(chain(1), 1, start_after=seconds_from_now(3600))
    assert state_of(await client.cancel(task_id)) == "CANCELLED"


async def test_the_deadline_is_counted_from_the_start(client):
    begin = seconds_from_now(1000)
    request = create_request(chain(1), 1, start_after=begin, timeout={"seconds": 10})
    created = (await client.call("CreateTask", request)).task
    assert created.deadline.seconds == begin["seconds"] + 10
    assert (await client.get(created.task_id)).deadline == created.deadline
    await client.cancel(created.task_id)


async def test_the_graph_has_a_timeout_which_the_request_can_replace(client):
    what = graph(WAITING)
    what.timeout.seconds = 100
    for fields, seconds in (({}, 100), ({"timeout": {"seconds": 7}}, 7)):
        created = (await client.call("CreateTask", create_request(what, **fields))).task
        span = created.deadline.ToDatetime() - created.create_time.ToDatetime()
        assert span == timedelta(seconds=seconds)
        await client.cancel(created.task_id)


async def test_a_task_that_takes_too_long_fails(client):
    task = await client.run(graph(WAITING), timeout={"nanos": 300_000_000})
    assert state_of(task) == "FAILED"
    assert task.failure.reason == "TASK_TIMED_OUT"
    assert task.end_time.ToDatetime() >= task.deadline.ToDatetime()


async def test_only_check(mesh):
    request = create_request(
        chain(1), 1, validate_only=True, labels={"a": "b"}, priority=3, timeout={"seconds": 5}
    )
    task = (await mesh.client.call("CreateTask", request)).task
    assert task.task_id == ""
    assert task.labels == {"a": "b"}
    assert task.priority == 3
    assert task.HasField("deadline")
    assert not task.HasField("create_time")
    (row,) = await mesh.fetch(
        "SELECT (SELECT count(*) FROM executor.tasks) + (SELECT count(*) FROM executor.graphs)"
    )
    assert row[0] == 0


async def test_a_task_is_created_at_the_time_of_its_id(client):
    request = create_request(chain(1), 1)
    created = (await client.call("CreateTask", request)).task
    assert (await client.get(created.task_id)).create_time == created.create_time


async def test_a_large_input_lies_apart(mesh):
    large = "x" * 100_000
    task_id = await mesh.client.create(graph(transform("a", "size(input)")), large)
    (row,) = await mesh.fetch(
        "SELECT t.input, length(p.data) AS length FROM executor.tasks t"
        " JOIN executor.payloads p USING (task_id)"
    )
    assert row["input"] is None
    assert row["length"] == len(large) + 2
    async with mesh.worker():
        task = await mesh.client.wait(task_id)
    assert output_of(task) == len(large)
    assert value_to_json(task.input.json) == large


async def test_the_same_start_is_the_same_request_when_it_has_passed(client):
    begin = seconds_from_now(0.2)
    ids = set()
    while time.time() < begin["seconds"] + begin["nanos"] / 1e9 or not ids:
        ids.add(await client.create(chain(1), 1, request_id="r", start_after=begin))
    ids.add(await client.create(chain(1), 1, request_id="r", start_after=begin))
    assert len(ids) == 1
