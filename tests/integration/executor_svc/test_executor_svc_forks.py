"""Forks: new tasks that keep what another one has recorded."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stepwire.errors import Reason
from stepwire.ids import uuid7
from stepwire.payload import value_to_json
from stepwire.sdk.functions import AddedSteps, step
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    chain,
    graph,
    output_of,
    python,
    refused,
    running_mesh,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import fork
from tests.integration.executor_svc.transition_record import FAILURE, Record, transition_record

__all__ = ["transition_record"]

MEBIBYTE = 1024 * 1024
NOTING = graph(
    python("one", "note", input="input"),
    python("two", "note", depends_on=["one"]),
    python("three", "note", depends_on=["two"]),
)


def states(task):
    return {step.step_id: state_of(step) for step in task.steps}


async def test_what_comes_before_is_kept_and_does_not_run_again(client, tmp_path):
    path = tmp_path / "notes"
    task = await client.run(NOTING, {"path": str(path)}, labels={"job": "a"}, priority=3)
    made = await fork(client, task.task_id, "two")
    assert made.task_id != task.task_id
    assert made.forked_from == task.task_id
    assert made.labels == {"job": "a"}
    assert made.priority == 3
    forked = await client.wait(made.task_id)
    assert output_of(forked) == output_of(task)
    assert value_to_json(forked.input.json) == value_to_json(task.input.json)
    assert noted(path) == ["one 1", "two 1", "three 1", "two 1", "three 1"]
    assert steps_of(forked)["one"] == steps_of(task)["one"]
    assert await client.history(made.task_id) == [
        "TASK_CREATED",
        "TASK_STARTED",
        "STEP_STARTED two 1",
        "STEP_SUCCEEDED two 1",
        "STEP_STARTED three 1",
        "STEP_SUCCEEDED three 1",
        "TASK_SUCCEEDED",
    ]


async def test_a_fork_of_a_task_that_failed(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    task_id = await client.create(
        graph(
            python("before", "note", input="input"),
            python("step", "need_file", depends_on=["before"], retry=NO_RETRY),
        ),
        {"path": str(path), "needs": str(needs), "result": 1},
    )
    assert state_of(await client.wait(task_id)) == "FAILED"
    needs.touch()
    made = await fork(client, task_id, "step", labels={"second": "try"})
    assert made.labels == {"second": "try"}
    assert output_of(await client.wait(made.task_id)) == 1
    assert state_of(await client.get(task_id)) == "FAILED"
    assert noted(path) == ["before 1", "step 1", "step 1"]


async def test_items_and_added_steps_are_kept(client):
    task = await client.run(
        graph(
            transform("items", "value", for_each="[1, 2, 3]"),
            transform("sum", "value[0] + value[1] + value[2]", depends_on=["items"]),
        )
    )
    made = await fork(client, task.task_id, "sum")
    forked = await client.wait(made.task_id)
    assert output_of(forked) == 6
    before, after = steps_of(task), steps_of(forked)
    for step_id in ("items", "items[0]", "items[1]", "items[2]"):
        assert after[step_id] == before[step_id]
    again = await client.wait((await fork(client, made.task_id, "items")).task_id)
    assert output_of(again) == 6
    assert (
        after["items[0]"].end_time.ToNanoseconds()
        < steps_of(again)["items[0]"].end_time.ToNanoseconds()
    )


async def test_a_fork_of_a_task_that_runs(client, tmp_path):
    """What had not ended runs anew beside it."""
    path, go = tmp_path / "notes", tmp_path / "go"
    task_id = await client.create(
        graph(
            python("quick", "note", input="input"),
            python("slow", "await_file", input="input"),
            transform("join", "1", depends_on=["quick", "slow"]),
        ),
        {"path": str(path), "awaits": str(go)},
    )
    await client.until(task_id, "quick", "SUCCEEDED")
    await eventually(lambda: "slow 1" in noted(path))
    made = await fork(client, task_id, "join")
    await eventually(lambda: noted(path).count("slow 1") == 2)
    go.touch()
    for each in (task_id, made.task_id):
        assert state_of(await client.wait(each)) == "SUCCEEDED"
    assert noted(path).count("quick 1") == 1


async def test_a_fork_is_planned_again_when_the_task_it_is_made_from_goes_on(
    record: Record,
) -> None:
    at_least_two = {"mode": "JOIN_MODE_AT_LEAST", "at_least": 2}
    compiled, task = await record.task(
        transform("a", "1"),
        transform("b", "1"),
        transform("join", "states", depends_on=["a", "b"], join=at_least_two),
    )
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "b")
    await record.run(session_id, compiled, task.task_id, "a", outcome=FAILURE)
    await record.run(session_id, compiled, task.task_id, "join", outcome=FAILURE)
    # By then the task is retried: what had failed, and was to be kept as failed, is ready.
    await record.retry(task.task_id)
    assert await record.state(task.task_id, "a") == "READY"
    a, _, join = task.steps
    made = replace(task, task_id=uuid7(), steps=[join])
    assert not await record.tasks.fork(made, ["a", "b"], source=task.task_id)
    assert await record.states(made.task_id) == {}
    assert await record.tasks.fork(replace(made, steps=[a, join]), ["b"], source=task.task_id)


async def test_joins_know_what_was_kept(client):
    what = graph(
        transform("a", "1"),
        transform("skipped", "1", when="false"),
        transform("b", "2", depends_on=["a"]),
        transform("all", "1", depends_on=["b", "skipped"]),
        transform("any", "1", depends_on=["b", "skipped"], join={"mode": "JOIN_MODE_ANY"}),
        transform("done", "1", depends_on=["b", "skipped"], join={"mode": "JOIN_MODE_ALL_DONE"}),
    )
    task = await client.run(what)
    expected = {
        "a": "SUCCEEDED",
        "skipped": "SKIPPED",
        "b": "SUCCEEDED",
        "all": "SKIPPED",
        "any": "SUCCEEDED",
        "done": "SUCCEEDED",
    }
    assert states(task) == expected
    # A skipped step gives null.
    assert output_of(task) == {"all": None, "any": 1, "done": 1}
    for from_step in expected:
        made = await fork(client, task.task_id, from_step)
        forked = await client.wait(made.task_id)
        assert states(forked) == expected, from_step
        assert output_of(forked) == output_of(task)


async def test_a_request_id_makes_one_fork(mesh):
    async with (
        running_mesh(mesh.database_url, mesh.rabbitmq_url, mesh.namespace) as other,
        mesh.worker(),
    ):
        task = await mesh.client.run(chain(3), 1)
        made = await asyncio.gather(
            *(
                fork(each.client, task.task_id, "s1", request_id="r")
                for each in (mesh, other)
                for _ in range(5)
            )
        )
        assert len({each.task_id for each in made}) == 1
        (first, *_) = made
        await mesh.client.wait(first.task_id)
        assert (await fork(mesh.client, task.task_id, "s1", request_id="r")).task_id == (
            first.task_id
        )
        for fields in ({"from_step": "s2"}, {"from_step": "s1", "labels": {"a": "b"}}):
            async with refused() as why:
                await fork(mesh.client, task.task_id, request_id="r", **fields)
            assert why().reason == Reason.REQUEST_ID_REUSED
        # Without one, each call makes one.
        more = {(await fork(mesh.client, task.task_id, "s1")).task_id for _ in range(2)}
        assert len(more | {first.task_id}) == 3


@pytest.mark.parametrize("from_step", ["", "no_such_step", "s0[0]", "~undo"])
async def test_a_fork_begins_at_a_step_of_the_graph(client, from_step):
    task = await client.run(chain(1), 1)
    async with refused() as why:
        await fork(client, task.task_id, from_step)
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == ["from_step"]


async def test_large_values_are_kept(client):
    """Those that are not in the rows of their task and step."""
    text = "x" * (MEBIBYTE - 2)
    task = await client.run(
        graph(transform("a", "input"), transform("b", "size(value)", depends_on=["a"])), text
    )
    assert output_of(task) == len(text)
    forked = await client.wait((await fork(client, task.task_id, "b")).task_id)
    assert output_of(forked) == len(text)
    assert output_of(steps_of(forked)["a"]) == text
    assert value_to_json(forked.input.json) == text


@step("test.forks.plan")
async def plan(value: dict[str, Any]) -> AddedSteps:
    """Add a step that can be undone."""
    undo = {"python": {"function": "test.note"}, "input": "input"}
    return AddedSteps(graph(python("book", "note", input="input", compensation=undo)), value)


async def test_what_was_added_and_undone_runs_anew_and_what_is_kept_can_be_undone(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    what = graph(
        python("first", "note", input="input"),
        python("plan", "forks.plan", depends_on=["first"], input="input"),
        python("last", "need_file", depends_on=["first", "plan"], input="input", retry=NO_RETRY),
    )
    value = {"path": str(path), "needs": str(needs)}
    failed = await client.run(what, value)
    assert noted(path) == ["first 1", "plan/book 1", "last 1", "~undo/plan_book 1"]
    needs.touch()
    again = await client.wait((await fork(client, failed.task_id, "last")).task_id)
    assert state_of(again) == "SUCCEEDED"
    assert noted(path)[4:] == ["plan/book 1", "last 1"]
    needs.unlink()
    kept = await client.wait((await fork(client, again.task_id, "last")).task_id)
    assert state_of(kept) == "FAILED"
    assert noted(path)[6:] == ["last 1", "~undo/plan_book 1"]


async def test_what_was_undone_runs_anew(client, tmp_path):
    path = tmp_path / "notes"
    undo = {"python": {"function": "test.note"}, "input": "input"}
    task_id = await client.create(
        graph(
            python("first", "note", input="input"),
            python("book", "note", depends_on=["first"], compensation=undo),
            python("fail", "fail_permanently", depends_on=["book"]),
        ),
        {"path": str(path)},
    )
    assert state_of(await client.wait(task_id)) == "FAILED"
    begun = noted(path)
    assert begun[:3] == ["first 1", "book 1", "fail 1"]
    made = await fork(client, task_id, "fail")
    await client.wait(made.task_id)
    assert noted(path)[len(begun) :][:2] == ["book 1", "fail 1"]
