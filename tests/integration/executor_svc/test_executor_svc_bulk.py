"""Doing the same with many tasks."""

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    chain,
    graph,
    output_of,
    python,
    refused,
    state_of,
)
from tests.integration.executor_svc.task_verbs import bulk, find, until_state

FAILED = task_pb2.TASK_STATE_FAILED
ASLEEP = graph({"name": "wait", "sleep": {"duration": {"seconds": 3600}}})
JOB = {"labels": {"job": "a"}}


async def test_cancel_pause_and_resume(client):
    ids = [await client.create(ASLEEP, **JOB) for _ in range(3)]
    other = await client.create(ASLEEP, labels={"job": "b"})
    for action, state in (("PAUSE", "PAUSED"), ("RESUME", "WAITING"), ("CANCEL", "CANCELLED")):
        for task_id in ids:
            await until_state(client, task_id, "PAUSED" if action == "RESUME" else "WAITING")
        for _ in range(2):
            done = await bulk(client, action, JOB)
            assert done.task_ids == ids
            assert not done.refused
            assert not done.next_page_token
        assert {state_of(await client.get(each)) for each in ids} == {state}
    assert state_of(await client.get(other)) == "WAITING"
    await client.cancel(other)


async def test_pages_are_oldest_first_and_end(client):
    ids = [await client.create(ASLEEP, **JOB) for _ in range(5)]
    found: list[str] = []
    token = ""
    for size in (2, 2, 1):
        page = await bulk(client, "CANCEL", JOB, page_size=2, page_token=token)
        assert len(page.task_ids) == size
        found += page.task_ids
        token = page.next_page_token
    assert not token
    assert found == ids


async def test_only_say_which(client):
    ids = [await client.create(ASLEEP, **JOB) for _ in range(2)]
    found = await bulk(client, "CANCEL", JOB, validate_only=True)
    assert found.task_ids == ids
    assert {state_of(await until_state(client, each, "WAITING")) for each in ids} == {"WAITING"}
    await bulk(client, "CANCEL", JOB)


async def test_a_task_that_does_not_allow_it_is_named(client):
    done = (await client.run(chain(1), 1, **JOB)).task_id
    going = await client.create(ASLEEP, **JOB)
    page = await bulk(client, "CANCEL", JOB)
    assert page.task_ids == [going]
    assert page.refused == {done: Reason.TASK_STATE_CONFLICT}


async def failed_tasks(client, tmp_path, count):
    needs = tmp_path / "needed"
    ids = []
    for place in range(count):
        task_id = await client.create(
            graph(
                python("before", "note", input="input"),
                python("step", "need_file", depends_on=["before"], retry=NO_RETRY),
            ),
            {"path": str(tmp_path / f"notes-{place}"), "needs": str(needs), "result": place},
            **JOB,
        )
        assert state_of(await client.wait(task_id)) == "FAILED"
        ids.append(task_id)
    return ids, needs


async def test_retry_those_that_failed(client, tmp_path):
    ids, needs = await failed_tasks(client, tmp_path, 3)
    fine = (await client.run(chain(1), 1, **JOB)).task_id
    needs.touch()
    wanted = {"state": FAILED, "failure_reason": "STEP_FAILED"}
    page = await bulk(client, "RETRY", wanted, request_id="again")
    assert page.task_ids == ids
    for place, task_id in enumerate(ids):
        assert output_of(await client.wait(task_id)) == place
    # The same operation again finds nothing that has failed, and the tasks say the same.
    assert not (await bulk(client, "RETRY", wanted, request_id="again")).task_ids
    repeated = await bulk(client, "RETRY", JOB, request_id="again")
    assert repeated.task_ids == ids
    assert repeated.refused == {fine: Reason.TASK_STATE_CONFLICT}


async def fork_all(client, **fields):
    """Fork the tasks of the job, two at a time; return what was made."""
    made: list[str] = []
    token = ""
    while True:
        page = await bulk(
            client, "FORK", JOB, from_step="step", page_size=2, page_token=token, **fields
        )
        made += page.task_ids
        token = page.next_page_token
        # Something is wrong with more.
        if not token or len(made) > 10:
            return made


async def test_forks_are_not_forked_again(client, tmp_path):
    """A filter selects what the operation itself makes."""
    ids, needs = await failed_tasks(client, tmp_path, 3)
    needs.touch()
    made = await fork_all(client)
    assert len(made) == 3
    for place, task_id in enumerate(made):
        task = await client.wait(task_id)
        assert task.forked_from == ids[place]
        assert output_of(task) == place


async def test_the_same_operation_makes_its_forks_once(client, tmp_path):
    ids, needs = await failed_tasks(client, tmp_path, 3)
    needs.touch()
    made = await fork_all(client, request_id="f")
    assert await fork_all(client, request_id="f") == made
    assert {(await client.wait(each)).forked_from for each in made} == set(ids)
    assert len(await find(client, **JOB)) == 6


async def test_a_step_that_a_task_does_not_have(client, tmp_path):
    task_id = (await client.run(chain(1), 1, **JOB)).task_id
    page = await bulk(client, "FORK", JOB, from_step="step")
    assert not page.task_ids
    assert page.refused == {task_id: Reason.FIELD_INVALID}


async def test_another_tenants_tasks_are_left_alone(client, shared_mesh):
    task_id = await client.create(ASLEEP, **JOB)
    page = await bulk(shared_mesh.client.of("another-tenant"), "CANCEL", JOB)
    assert not page.task_ids
    assert (await bulk(client, "CANCEL", JOB)).task_ids == [task_id]


CANCEL = pb.TASK_ACTION_CANCEL
ANY_FILTER = pb.TaskFilter(labels={"a": "b"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action": CANCEL}, "filter"),
        ({"action": CANCEL, "filter": pb.TaskFilter(state=99)}, "filter.state"),
        ({"filter": ANY_FILTER}, "action"),
        ({"filter": ANY_FILTER, "action": 99}, "action"),
        ({"filter": ANY_FILTER, "action": CANCEL, "from_step": "a"}, "from_step"),
        ({"filter": ANY_FILTER, "action": pb.TASK_ACTION_FORK}, "from_step"),
        ({"filter": ANY_FILTER, "action": CANCEL, "page_size": -1}, "page_size"),
        ({"filter": ANY_FILTER, "action": CANCEL, "request_id": "r" * 81}, "request_id"),
    ],
)
async def test_bad_operations(client, fields, field):
    async with refused() as why:
        await client.call("BulkUpdateTasks", pb.BulkUpdateTasksRequest(**fields))
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == [field]


async def test_a_token_belongs_to_its_operation(client):
    for _ in range(2):
        await client.create(ASLEEP, **JOB)
    token = (await bulk(client, "PAUSE", JOB, page_size=1)).next_page_token
    for action, wanted in (("CANCEL", JOB), ("PAUSE", {"labels": {"job": "b"}})):
        async with refused() as why:
            await bulk(client, action, wanted, page_token=token)
        assert why().reason == Reason.PAGE_TOKEN_INVALID
    await bulk(client, "CANCEL", JOB)
