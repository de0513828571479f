"""Lists of tasks: pages and filters."""

import pytest

from executor_svc.store import tasks as store
from executor_svc.store.tasks import MOST_ALIVE
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    chain,
    graph,
    python,
    refused,
    state_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import find, pause, until_state

ASLEEP = graph({"name": "wait", "sleep": {"duration": {"seconds": 3600}}})


async def test_lists_are_paged_newest_first(client):
    ids = [await client.create(chain(1), number) for number in range(5)]
    found: list[str] = []
    token = ""
    for size in (2, 2, 1):
        page = await client.call("ListTasks", pb.ListTasksRequest(page_size=2, page_token=token))
        assert len(page.tasks) == size
        found += [task.task_id for task in page.tasks]
        token = page.next_page_token
    assert not token
    assert found == ids[::-1]


async def test_a_token_belongs_to_its_filter(client):
    for _ in range(2):
        await client.create(chain(1), 1, labels={"job": "a"})
    wanted = pb.TaskFilter(labels={"job": "a"})
    page = await client.call("ListTasks", pb.ListTasksRequest(page_size=1, filter=wanted))
    token = page.next_page_token
    await client.call("ListTasks", pb.ListTasksRequest(page_token=token, filter=wanted))
    for other in (None, pb.TaskFilter(workflow="a"), pb.TaskFilter(labels={"job": "b"})):
        async with refused() as why:
            await client.call("ListTasks", pb.ListTasksRequest(page_token=token, filter=other))
        assert why().reason == Reason.PAGE_TOKEN_INVALID


@pytest.fixture
async def tasks(client):
    """One task in each state, by state; no worker takes the one that is PENDING."""
    made = {
        "SUCCEEDED": (await client.run(chain(1), 1, labels={"job": "a", "part": "1"})).task_id,
        "FAILED": (
            await client.run(
                graph(python("f", "fail_permanently")), labels={"job": "a", "part": "2"}
            )
        ).task_id,
        "WAITING": await client.create(ASLEEP),
        "PAUSED": await client.create(ASLEEP),
        "CANCELLED": await client.create(ASLEEP),
    }
    await until_state(client, made["WAITING"], "WAITING")
    await pause(client, made["PAUSED"])
    await client.cancel(made["CANCELLED"])
    yield made
    await client.cancel(made["WAITING"])
    await client.cancel(made["PAUSED"])


@pytest.fixture(params=[MOST_ALIVE, 0], ids=["by what is alive", "one by one"])
def most_alive(request, monkeypatch):
    """How many steps are looked at for tasks that go on, before all tasks are."""
    monkeypatch.setattr(store, "MOST_ALIVE", request.param)


@pytest.mark.usefixtures("most_alive")
async def test_tasks_are_found_whatever_they_wait_for(client):
    never = {"wait_signal": {"name": "never"}}
    keyed = graph({"name": "a", **never})
    keyed.concurrency.key = "'one'"
    made = [
        await client.create(what)
        for what in (
            ASLEEP,
            graph({"name": "a", **never}),
            graph({"name": "a", "subtask": {"graph": graph({"name": "a", **never})}}),
            graph(transform("a", "1", for_each="[1]", retry=NO_RETRY), {"name": "b", **never}),
            keyed,
            keyed,
        )
    ]
    for task_id in made:
        await until_state(client, task_id, "WAITING")
    waiting = task_pb2.TASK_STATE_WAITING

    async def all_found() -> list[str] | None:
        found = await find(client, state=waiting)
        return found if len(found) > len(made) else None

    (child,) = set(await eventually(all_found)) - set(made)
    assert await find(client, state=waiting) == sorted([*made, child], reverse=True)
    assert await find(client, state=waiting, labels={"no": "such"}) == []
    assert await find(client, state=task_pb2.TASK_STATE_RUNNING) == []
    for task_id in made:
        await client.cancel(task_id)
    assert await find(client.of("another"), state=waiting) == []


@pytest.mark.usefixtures("most_alive")
async def test_by_state(client, tasks):
    assert await find(client) == list(tasks.values())[::-1]
    for name, number in task_pb2.TaskState.items()[1:]:
        state = name.removeprefix("TASK_STATE_")
        found = await find(client, state=number)
        assert found == ([tasks[state]] if state in tasks else []), state


async def test_a_list_says_the_state_that_it_was_asked_for(client, tasks):
    for name, number in task_pb2.TaskState.items()[1:]:
        wanted = pb.TaskFilter(state=number)
        page = await client.call("ListTasks", pb.ListTasksRequest(filter=wanted))
        assert {state_of(task) for task in page.tasks} <= {name.removeprefix("TASK_STATE_")}


async def test_by_labels(client, tasks):
    assert await find(client, labels={"job": "a"}) == [tasks["FAILED"], tasks["SUCCEEDED"]]
    assert await find(client, labels={"part": "1"}) == [tasks["SUCCEEDED"]]
    assert await find(client, labels={"job": "a", "part": "3"}) == []


async def test_by_reason(client, tasks):
    assert await find(client, failure_reason="STEP_FAILED") == [tasks["FAILED"]]
    assert await find(client, failure_reason="STEP_TIMED_OUT") == []
    for state, count in (("FAILED", 1), ("SUCCEEDED", 0), ("PAUSED", 0)):
        number = task_pb2.TaskState.Value(f"TASK_STATE_{state}")
        assert len(await find(client, state=number, failure_reason="STEP_FAILED")) == count


async def test_by_time(client, tasks):
    ids = list(tasks.values())
    second = (await client.get(ids[1])).create_time
    assert await find(client, created_from=second) == ids[:0:-1]
    assert await find(client, created_before=second) == ids[:1]
    assert await find(client, created_from=second, created_before=second) == []


async def test_conditions_are_all_met(client, tasks):
    wanted = {"labels": {"job": "a"}, "state": task_pb2.TASK_STATE_FAILED}
    assert await find(client, **wanted) == [tasks["FAILED"]]
    assert await find(client, **wanted, workflow="w") == []


@pytest.mark.usefixtures("most_alive")
async def test_a_pending_task_is_listed_as_such(mesh):
    task_id = await mesh.client.create(chain(1), 1)
    assert await find(mesh.client, state=task_pb2.TASK_STATE_PENDING) == [task_id]
    assert await find(mesh.client, state=task_pb2.TASK_STATE_WAITING) == []
