"""Steps that failed for good: listed by reason, and replayed."""

import pytest

from stepwire.errors import Reason
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    graph,
    output_of,
    python,
    refused,
    state_of,
    steps_of,
)
from tests.integration.executor_svc.queue_client import queue_client

UNKNOWN = "018f0000-0000-7000-8000-000000000000"


@pytest.fixture
async def queues(shared_mesh, client):
    async with queue_client(shared_mesh, client.tenant) as opened:
        yield opened


@pytest.fixture
def broken(client, tmp_path):
    """Run a task whose step fails as long as a file is not there."""
    what = graph(
        python("before", "note", input="input"),
        python("work", "need_file", depends_on=["before"], input="input", retry=NO_RETRY),
    )
    value = {"path": str(tmp_path / "notes"), "needs": str(tmp_path / "file"), "result": 7}

    async def run():
        task = await client.run(what, value)
        assert state_of(task) == "FAILED"
        return task.task_id

    return run


async def fail_otherwise(client):
    what = graph(
        python("other", "big", input="2000000", retry=NO_RETRY, queue="llm"),
    )
    return (await client.run(what)).task_id


async def test_failed_steps_are_listed_and_counted_by_reason(client, queues, broken):
    first, second = await broken(), await broken()
    other = await fail_otherwise(client)
    page = await queues.call("ListFailedSteps")
    assert [step.task_id for step in page.steps] == [other, second, first]
    assert [(each.reason, each.steps) for each in page.reasons] == [
        ("STEP_FAILED", 2),
        ("OUTPUT_TOO_LARGE", 1),
    ]
    assert not page.reasons_capped
    step = page.steps[1]
    assert (step.step_id, step.queue, step.attempt) == ("work", "default", 1)
    assert step.failure.reason == "STEP_FAILED"
    assert step.HasField("end_time")
    assert await queues.reasons(reason="OUTPUT_TOO_LARGE") == {"OUTPUT_TOO_LARGE": 1}
    assert await queues.reasons(queue="llm") == {"OUTPUT_TOO_LARGE": 1}
    assert await queues.reasons(workflow="none") == {}
    assert await queues.reasons(failed_before=page.steps[0].end_time) == {"STEP_FAILED": 2}


async def test_failed_steps_come_in_pages(queues, broken):
    tasks = [await broken() for _ in range(3)]
    first = await queues.call("ListFailedSteps", page_size=2)
    second = await queues.call("ListFailedSteps", page_size=2, page_token=first.next_page_token)
    found = [step.task_id for page in (first, second) for step in page.steps]
    assert found == tasks[::-1]
    assert second.next_page_token == ""
    assert (len(first.reasons), len(second.reasons)) == (1, 0)
    async with refused() as error:
        await queues.call("ListFailedSteps", page_token="x" + first.next_page_token)
    assert error().reason is Reason.PAGE_TOKEN_INVALID


async def test_failed_steps_of_other_tenants_are_not_seen(shared_mesh, queues, broken):
    task_id = await broken()
    async with queue_client(shared_mesh, "somebody-else") as others:
        assert await others.reasons() == {}
        replayed = await others.call("ReplaySteps", task_ids=[task_id])
    assert dict(replayed.refused) == {task_id: "TASK_NOT_FOUND"}
    assert await queues.reasons() == {"STEP_FAILED": 1}


async def test_one_task_is_replayed(client, queues, broken, tmp_path):
    task_id, another = await broken(), await broken()
    (tmp_path / "file").touch()
    replayed = await queues.call("ReplaySteps", task_ids=[task_id, task_id, UNKNOWN])
    assert (replayed.tasks_replayed, replayed.steps_replayed) == (1, 1)
    assert dict(replayed.refused) == {UNKNOWN: "TASK_NOT_FOUND"}
    task = await client.wait(task_id)
    assert output_of(task) == 7
    assert steps_of(task)["work"].attempt == 2
    assert noted(tmp_path / "notes").count("before 1") == 2
    assert state_of(await client.get(another)) == "FAILED"
    again = await queues.call("ReplaySteps", task_ids=[task_id])
    assert dict(again.refused) == {task_id: "TASK_STATE_CONFLICT"}


async def test_all_that_a_filter_selects_is_replayed_page_by_page(client, queues, broken, tmp_path):
    tasks = [await broken() for _ in range(3)]
    other = await fail_otherwise(client)
    (tmp_path / "file").touch()
    conditions = {"reason": "STEP_FAILED"}
    first = await queues.call("ReplaySteps", filter=conditions, page_size=2, request_id="r")
    assert (first.tasks_replayed, first.steps_replayed) == (2, 2)
    assert first.next_page_token
    second = await queues.call(
        "ReplaySteps",
        filter=conditions,
        page_size=2,
        page_token=first.next_page_token,
        request_id="r",
    )
    assert (second.tasks_replayed, second.next_page_token) == (1, "")
    assert [state_of(await client.wait(task_id)) for task_id in tasks] == ["SUCCEEDED"] * 3
    assert state_of(await client.get(other)) == "FAILED"


async def test_a_request_id_replays_once(client, queues, broken, tmp_path):
    """The second call finds the task failed anew, and leaves it as it is."""
    task_id = await broken()
    for _ in range(2):
        replayed = await queues.call("ReplaySteps", task_ids=[task_id], request_id="r")
        assert replayed.tasks_replayed == 1
        await client.wait(task_id)
    assert [line for line in noted(tmp_path / "notes") if line.startswith("work")] == [
        "work 1",
        "work 2",
    ]
