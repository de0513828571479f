"""A retry of a task that failed since too few steps, or items, have succeeded gets somewhere."""

from typing import Any

import pytest

from stepwire.errors import Reason
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    Client,
    graph,
    output_of,
    python,
    state_of,
    steps_of,
    transform,
)

ANY = {"mode": "JOIN_MODE_ANY"}
ALL_DONE = {"mode": "JOIN_MODE_ALL_DONE"}


def at_least(count: int) -> dict[str, Any]:
    return {"mode": "JOIN_MODE_AT_LEAST", "at_least": count}


def needs_file(name: str, **fields: Any) -> dict[str, Any]:
    return python(name, "need_file", input="input", retry=NO_RETRY, **fields)


async def retried(client: Client, what: Any, value: dict[str, str], needs: Any) -> Any:
    """Run a task whose join is unsatisfied, put right what kept it, and retry it."""
    task = await client.run(what, value)
    assert (state_of(task), task.failure.reason) == ("FAILED", Reason.JOIN_UNSATISFIED)
    needs.touch()
    await client.retry(task.task_id)
    return await client.wait(task.task_id)


@pytest.fixture
def value(tmp_path):
    return {"path": str(tmp_path / "notes"), "needs": str(tmp_path / "needed"), "result": "ok"}


async def test_failed_steps_below_a_join_run_again(client, value, tmp_path):
    what = graph(
        needs_file("a"),
        needs_file("b"),
        python("good", "note", input="input"),
        transform("join", "steps", depends_on=["a", "b", "good"], join=at_least(3), input="steps"),
        transform("last", "'done'", depends_on=["join"]),
    )
    task = await retried(client, what, value, tmp_path / "needed")
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", "done")
    assert {name: step.attempt for name, step in steps_of(task).items()} == {
        "a": 2,
        "b": 2,
        "good": 1,
        "join": 2,
        "last": 1,
    }
    assert sorted(noted(tmp_path / "notes")) == ["a 1", "a 2", "b 1", "b 2", "good 1"]


async def test_joins_below_a_join_are_taken_up_again_too(client, value, tmp_path):
    what = graph(
        needs_file("a"),
        needs_file("b"),
        transform("inner", "1", depends_on=["a", "b"], join=ANY),
        transform("other", "2", depends_on=["missing"], join=ANY),
        needs_file("missing"),
        transform("outer", "'done'", depends_on=["inner", "other"], join=at_least(2)),
    )
    task = await retried(client, what, value, tmp_path / "needed")
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", "done")
    # What follows one step has its row already, and waits in it.
    assert steps_of(task)["other"].attempt == 2


async def test_what_has_acted_upon_a_failure_stays_as_it_is(client, value, tmp_path):
    """And a join that still counts, counts each of its steps once."""
    go = tmp_path / "go"
    what = graph(
        needs_file("a"),
        python("clean", "note", input="input", depends_on=["a"], join=ALL_DONE),
        python("slow", "await_file", input="input"),
        transform("report", "states", depends_on=["a", "slow"], join=ALL_DONE),
        transform("fails", "1", depends_on=["a", "clean"], join=at_least(2)),
    )
    task = await client.run(what, {**value, "awaits": str(go)})
    assert task.failure.reason == Reason.JOIN_UNSATISFIED
    (tmp_path / "needed").touch()
    await client.retry(task.task_id)
    await client.until(task.task_id, "fails", "SUCCEEDED")
    assert state_of(await client.step(task.task_id, "report")) == "BLOCKED"
    go.touch()
    task = await client.wait(task.task_id)
    assert output_of(task) == {"report": {"a": "SUCCEEDED", "slow": "SUCCEEDED"}, "fails": 1}
    assert noted(tmp_path / "notes").count("clean 1") == 1


@pytest.mark.parametrize("lanes", [0, 2])
async def test_items_that_failed_or_were_left_over_run_again(client, value, tmp_path, lanes):
    what = graph(
        python(
            "each",
            "need_file_for_item",
            for_each="[0, 1, 2, 3, 4, 5, 6, 7]",
            # Without the file, items fail until too few are left.
            input="{'path': input.path, 'needs': input.needs, 'item': item, 'bad': item % 2 == 0"
            " ? -1 : item}",
            items_join=at_least(8 if lanes == 0 else 7),
            max_parallel=lanes,
            retry=NO_RETRY,
        ),
        transform("last", "size(value)", depends_on=["each"]),
    )
    failed = await client.run(what, value)
    assert failed.failure.reason == Reason.JOIN_UNSATISFIED
    (tmp_path / "needed").touch()
    await client.retry(failed.task_id)
    task = await client.wait(failed.task_id)
    assert (state_of(task), output_of(task)) == ("SUCCEEDED", 8)
    for step_id, step in steps_of(failed).items():
        again = step.attempt + (state_of(step) != "SUCCEEDED")
        assert steps_of(task)[step_id].attempt == again, step_id
