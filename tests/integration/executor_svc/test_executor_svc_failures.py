"""Steps that fail: what is recorded, what stops, what is tried again, how it goes on."""

import pytest

from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason
from stepwire.sdk.values import from_payload
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    AT_ONCE,
    NO_RETRY,
    graph,
    output_of,
    python,
    refused,
    state_of,
    steps_of,
    transform,
)


async def test_a_function_that_raises_fails_its_task_with_that_failure(client):
    task = await client.run(
        graph(
            python("bad", "fail", retry=NO_RETRY),
            transform("after", "1", depends_on=["bad"]),
        )
    )
    assert state_of(task) == "FAILED"
    assert task.failure.reason == "STEP_FAILED"
    assert task.failure.message == "ValueError: it went wrong"
    assert task.failure.metadata == {"exception": "ValueError"}
    assert task.failure.step_id == "bad"
    (bad,) = task.steps
    assert state_of(bad) == "FAILED"
    assert bad.failure.message == "ValueError: it went wrong"
    assert await client.history(task.task_id) == [
        "TASK_CREATED",
        "TASK_STARTED",
        "STEP_STARTED bad 1",
        "STEP_FAILED bad 1",
        "TASK_FAILED",
    ]


async def test_results_of_siblings_are_kept_and_what_waits_is_held(client, tmp_path):
    path, go = str(tmp_path / "notes"), tmp_path / "go"
    task_id = await client.create(
        graph(
            python("slow", "await_file", input="input.slow"),
            python("bad", "fail", retry=NO_RETRY),
            transform("after_slow", "value", depends_on=["slow"]),
            transform("join", "1", depends_on=["slow", "bad"]),
        ),
        {"slow": {"path": path, "awaits": str(go), "result": 7}},
    )
    await client.until(task_id, "bad", "FAILED")
    assert state_of(await client.get(task_id)) == "FAILED"
    go.touch()
    await client.until(task_id, "slow", "SUCCEEDED")
    steps = steps_of(await client.get(task_id))
    assert output_of(steps["slow"]) == 7
    assert state_of(steps["after_slow"]) == "BLOCKED"
    assert state_of(steps["join"]) == "BLOCKED"


async def test_retry_continues_behind_the_completed_steps(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    value = {"path": str(path), "needs": str(needs), "result": "done"}
    task_id = await client.create(
        graph(
            python("first", "note", input="input"),
            python("bad", "need_file", depends_on=["first"], input="input", retry=NO_RETRY),
            python("sibling", "note", depends_on=["first"], input="input"),
            python("last", "note", depends_on=["bad", "sibling"], input="input"),
        ),
        value,
    )
    failed = await client.wait(task_id)
    assert state_of(failed) == "FAILED"
    await client.until(task_id, "last", "BLOCKED")
    needs.touch()
    again = await client.retry(task_id)
    assert state_of(again) == "RUNNING"
    assert not again.HasField("failure")
    task = await client.wait(task_id)
    assert state_of(task) == "SUCCEEDED"
    # The sibling ran once, before the failure or, if it was still ready then, after the retry.
    lines = sorted(noted(path))
    assert lines[:4] == ["bad 1", "bad 2", "first 1", "last 1"]
    assert lines[4:] in (["sibling 1"], ["sibling 2"])
    history = await client.history(task_id)
    assert history[-1] == "TASK_SUCCEEDED"
    assert [line for line in history if line.startswith("TASK_")][2:4] == [
        "TASK_FAILED",
        "TASK_RETRIED",
    ]


async def test_attempts_count_anew_after_retry(client, tmp_path):
    path = tmp_path / "notes"
    task_id = await client.create(
        graph(python("bad", "fail", retry={**AT_ONCE, "max_attempts": 2})), {"path": str(path)}
    )
    await client.wait(task_id)
    await client.retry(task_id)
    task = await client.wait(task_id)
    assert noted(path) == ["bad 1", "bad 2", "bad 3", "bad 4"]
    assert task.steps[0].attempt == 4


async def test_a_request_id_retries_once(client, tmp_path):
    path = tmp_path / "notes"
    task_id = await client.create(graph(python("bad", "fail", retry=NO_RETRY)), {"path": str(path)})
    await client.wait(task_id)
    await client.retry(task_id, request_id="again")
    failed_again = await client.wait(task_id)
    repeated = await client.retry(task_id, request_id="again")
    assert state_of(repeated) == "FAILED"
    assert repeated.last_cursor == failed_again.last_cursor
    await client.retry(task_id, request_id="and again")
    await client.wait(task_id)
    assert noted(path) == ["bad 1", "bad 2", "bad 3"]


async def test_only_a_failed_task_can_be_retried(client):
    task = await client.run(graph(transform("a", "1")))
    async with refused() as why:
        await client.retry(task.task_id, request_id="r")
    assert why().reason == Reason.TASK_STATE_CONFLICT
    assert why().metadata["state"] == "SUCCEEDED"


async def test_a_failed_attempt_is_tried_again_after_a_wait(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    task_id = await client.create(
        graph(
            python(
                "bad",
                "need_file",
                retry={"initial_backoff": {"seconds": 3600}, "max_backoff": {"seconds": 3600}},
            )
        ),
        {"path": str(path), "needs": str(needs)},
    )
    step = await client.until(task_id, "bad", "WAITING")
    assert step.attempt == 2
    assert step.failure.metadata == {"exception": "FileNotFoundError"}
    wait = step.wait_until.ToDatetime() - step.start_time.ToDatetime()
    assert 1800 <= wait.total_seconds() <= 3660
    assert noted(path) == ["bad 1"]


async def test_attempts_end_when_the_policy_says(client, tmp_path):
    path = tmp_path / "notes"
    task = await client.run(graph(python("bad", "fail", retry=AT_ONCE)), {"path": str(path)})
    assert state_of(task) == "FAILED"
    assert noted(path) == ["bad 1", "bad 2", "bad 3"]
    events = await client.events(task.task_id)
    retrying = [event for event in events if event.type == task_pb2.TASK_EVENT_TYPE_STEP_RETRYING]
    assert [event.attempt for event in retrying] == [1, 2]
    assert {event.failure.message for event in retrying} == {"ValueError: it went wrong"}


async def test_a_permanent_error_is_not_tried_again(client, tmp_path):
    path = tmp_path / "notes"
    task = await client.run(
        graph(python("bad", "fail_permanently", retry=AT_ONCE)), {"path": str(path)}
    )
    assert task.failure.message == "it will never work"
    assert noted(path) == ["bad 1"]


async def test_an_attempt_that_runs_too_long_is_stopped(client, tmp_path):
    path = tmp_path / "notes"
    task = await client.run(
        graph(python("slow", "await_file", timeout={"nanos": 50_000_000}, retry=NO_RETRY)),
        {"path": str(path), "awaits": str(tmp_path / "never")},
    )
    assert task.failure.reason == "STEP_TIMED_OUT"
    assert task.failure.metadata == {"timeout_seconds": "0.05"}
    assert noted(path) == ["slow 1", "cancelled"]


async def test_an_unregistered_function(client):
    task = await client.run(graph(python("bad", "nowhere", retry=AT_ONCE)))
    assert task.failure.reason == "FUNCTION_NOT_FOUND"
    assert task.failure.metadata == {"function": "test.nowhere"}
    assert task.steps[0].attempt == 1


@pytest.mark.parametrize(
    ("function", "value", "reason", "message"),
    [
        ("big", 1024 * 1024 - 1, "OUTPUT_TOO_LARGE", "1048577 bytes are more than 1048576"),
        ("no_json", None, "STEP_FAILED", "not a JSON value"),
        ("nested", 33, "NESTED_TOO_DEEP", "nested deeper than 32"),
        ("nested_tuples", 33, "NESTED_TOO_DEEP", "nested deeper than 32"),
    ],
)
async def test_an_output_that_cannot_be_recorded(client, function, value, reason, message):
    task = await client.run(graph(python("bad", function, retry=AT_ONCE)), value)
    assert state_of(task) == "FAILED"
    assert task.failure.reason == reason
    assert message in task.failure.message
    assert task.steps[0].attempt == 1


async def test_the_largest_and_the_deepest_output_can_be_read(client):
    task = await client.run(graph(python("deep", "nested")), 32)
    assert state_of(task) == "SUCCEEDED", task
    deep = output_of(task)
    # Put together with others it is deeper than clients read it in its natural form.
    for what in (
        graph(python("deep", "nested"), transform("b", "1")),
        graph(python("deep", "nested", for_each="[input]")),
    ):
        task = await client.run(what, 32)
        assert from_payload(task.output) == ({"deep": deep, "b": 1} if what.steps[1:] else [deep])
    assert len(output_of(await client.run(graph(python("big", "big")), 1024 * 1024 - 2))) == 1048574


async def test_an_error_text_that_the_record_cannot_hold_as_it_is(client):
    task = await client.run(graph(python("bad", "awkward_text", retry=NO_RETRY)))
    assert task.failure.message == "ValueError: a half ? and a nul  in it"


@pytest.mark.parametrize(
    ("function", "exception"), [("cancel", "CancelledError"), ("exit", "SystemExit")]
)
async def test_a_function_that_raises_what_ends_tasks_or_processes(client, function, exception):
    task = await client.run(graph(python("bad", function, retry=NO_RETRY)))
    assert task.failure.metadata == {"exception": exception}
    assert output_of(await client.run(graph(transform("a", "1")))) == 1


async def test_an_expression_that_fails_on_its_values(client):
    task = await client.run(graph(transform("bad", "input.missing", retry=AT_ONCE)), {})
    assert task.failure.reason == "EXPRESSION_INVALID"
    assert task.steps[0].attempt == 1


async def test_two_failures_end_the_task_once(client, tmp_path):
    task_id = await client.create(
        graph(*(python(f"bad{n}", "fail", retry=NO_RETRY) for n in range(5)))
    )
    await client.wait(task_id)

    async def all_ended():
        return all(
            state_of(step) in {"FAILED", "BLOCKED"} for step in (await client.get(task_id)).steps
        )

    await eventually(all_ended)
    history = await client.history(task_id)
    assert history.count("TASK_FAILED") == 1
