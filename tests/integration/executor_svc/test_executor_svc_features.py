"""What graphs can ask for, each once from the request to the events and the output."""

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from stepwire.api.executor.v1 import graph_pb2, task_pb2
from stepwire.errors import Reason
from stepwire.sdk.functions import AddedSteps, StepContext, step
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    AT_ONCE,
    NO_RETRY,
    Client,
    graph,
    output_of,
    python,
    refused,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import send, until_state

ANY = {"mode": graph_pb2.JOIN_MODE_ANY}
TWO = {"mode": graph_pb2.JOIN_MODE_AT_LEAST, "at_least": 2}
ALL_DONE = {"mode": graph_pb2.JOIN_MODE_ALL_DONE}
# The workers run in this process.
beaten: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
undone: dict[str, list[Any]] = defaultdict(list)


@step("test.features.beat")
async def beat(_: Any, context: StepContext) -> Any:
    """Report and fail; the next attempt returns what was reported."""
    if context.attempt > 1:
        return context.last_heartbeat
    context.heartbeat({"done": 41})
    await beaten[context.task_id].wait()
    raise ValueError("half way")


@step("test.features.beat_and_fail")
async def beat_and_fail(_: Any, context: StepContext) -> Any:
    if context.attempt > 1:
        return context.last_heartbeat
    context.heartbeat({"done": 7})
    raise ValueError("at once")


@step("test.features.be_silent")
async def be_silent(_: Any) -> None:
    await asyncio.Event().wait()


@step("test.features.undo")
async def undo(value: Any, context: StepContext) -> None:
    undone[context.task_id].append(value)


@step("test.features.undo_badly")
async def undo_badly(_: Any) -> None:
    raise ValueError("it cannot be undone")


@step("test.features.plan")
async def plan(depth: int) -> Any:
    """Add a step that adds a step, and so on."""
    if depth == 0:
        return 0
    inner = python("down", "features.plan", input="input.depth", retry=NO_RETRY)
    return AddedSteps(
        graph(inner, transform("up", "value + 1", depends_on=["down"])), {"depth": depth - 1}
    )


@step("test.features.book")
async def book(where: str) -> AddedSteps:
    """Add steps that can be undone, one of which adds another; nowhere, that one fails."""
    more = "fail" if where == "nowhere" else "features.book_more"
    return AddedSteps(
        graph(
            transform("taxi", "'taxi'", compensation=undone_by("undo_badly")),
            transform(
                "hotel",
                "'hotel'",
                depends_on=["taxi"],
                compensation=undone_by("undo", input="output + ' in ' + input.where"),
            ),
            transform(
                "rooms",
                "item",
                depends_on=["hotel"],
                for_each="[1, 2]",
                max_parallel=1,
                compensation=undone_by("undo", input="steps.hotel + ' ' + string(output)"),
            ),
            python("more", more, depends_on=["rooms"], retry=NO_RETRY),
        ),
        {"where": where},
    )


@step("test.features.book_more")
async def book_more(_: Any) -> AddedSteps:
    return AddedSteps(graph(transform("car", "'car'", compensation=undone_by("undo"))))


@step("test.features.plan_elsewhere")
async def plan_elsewhere(count: int) -> AddedSteps:
    """Add steps to a queue that there is not."""
    return AddedSteps(graph(*(transform(f"s{n}", "1", queue="nowhere") for n in range(count))))


@step("test.features.plan_much")
async def plan_much(size: int) -> AddedSteps:
    """Add a step with an input of so many characters."""
    return AddedSteps(graph(transform("size", "size(input)")), "x" * size)


@step("test.features.plan_subtask_elsewhere")
async def plan_subtask_elsewhere(_: Any) -> AddedSteps:
    """Add a step whose subtask needs a queue that there is not."""
    return AddedSteps(graph(subtask("sub", transform("a", "1", queue="nowhere"))))


def states(task: task_pb2.Task) -> dict[str, str]:
    return {step_id: state_of(run) for step_id, run in steps_of(task).items()}


def subtask(name: str, *steps: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "subtask": {"graph": graph(*steps)}, **fields}


def undone_by(function: str, **fields: Any) -> dict[str, Any]:
    return {"python": {"function": f"test.features.{function}"}, "retry": NO_RETRY, **fields}


async def test_a_step_whose_condition_is_false_is_skipped(client: Client) -> None:
    task = await client.run(
        graph(
            transform("a", "5"),
            transform("b", "1", depends_on=["a"], when="steps.a > 7"),
            transform("c", "1", depends_on=["b"]),
            transform("d", "[states.b, states.a]", depends_on=["a", "b"], join=ALL_DONE),
        )
    )
    assert output_of(task) == {"c": None, "d": ["SKIPPED", "SUCCEEDED"]}
    assert states(task)["c"] == "SKIPPED"
    history = await client.history(task.task_id)
    assert {"STEP_SKIPPED b 1", "STEP_SKIPPED c 1"} <= set(history)
    assert not {"STEP_STARTED b 1", "STEP_STARTED c 1"} & set(history)


@pytest.mark.parametrize("join", [ANY, TWO])
async def test_a_join_goes_on_with_enough(client: Client, join: dict[str, int]) -> None:
    task = await client.run(
        graph(
            transform("a", "1"),
            transform("b", "2"),
            python("bad", "fail", retry=NO_RETRY),
            {"name": "never", "wait_signal": {"name": "never"}},
            transform("join", "states.never", depends_on=["a", "b", "bad", "never"], join=join),
        )
    )
    assert state_of(task) == "SUCCEEDED"
    assert states(task)["join"] == "SUCCEEDED"
    assert states(task)["never"] == "CANCELLED"


async def test_a_join_that_cannot_have_enough_fails(client: Client) -> None:
    bad = [python(name, "fail", retry=NO_RETRY) for name in ("b", "c")]
    join = transform("join", "1", depends_on=["a", "b", "c"], join=TWO)
    task = await client.run(graph(transform("a", "1"), *bad, join))
    assert state_of(task) == "FAILED"
    assert task.failure.reason == Reason.JOIN_UNSATISFIED
    assert task.failure.step_id == "join"


async def test_items_run_a_few_at_a_time(client: Client) -> None:
    each = python("each", "echo", for_each="[1, 2, 3, 4, 5]", max_parallel=2)
    task = await client.run(graph(each))
    assert output_of(task) == [1, 2, 3, 4, 5]
    at_once, most = set(), 0
    for line in await client.history(task.task_id):
        event, _, step_id = line.rpartition(" ")[0].partition(" ")
        if "[" in step_id:
            (at_once.add if event == "STEP_STARTED" else at_once.discard)(step_id)
            most = max(most, len(at_once))
    assert 1 <= most <= 2


async def test_some_items_may_fail(client: Client) -> None:
    each = transform("each", "10 / (value - 2)", for_each="[1, 2, 3]", retry=NO_RETRY)
    task = await client.run(graph({**each, "items_join": ALL_DONE}))
    assert output_of(task) == [-10, None, 10]
    task = await client.run(graph({**each, "items_join": {**TWO, "at_least": 3}}))
    assert task.failure.reason == Reason.JOIN_UNSATISFIED


async def test_a_sleep_passes_its_input_on(client: Client) -> None:
    task = await client.run(graph({"name": "nap", "sleep": {"until": "0.05"}, "input": "7"}))
    assert output_of(task) == 7
    assert "STEP_WAITING nap 1" in await client.history(task.task_id)


async def test_a_signal_is_the_output_of_the_step_that_waits_for_it(client: Client) -> None:
    wait = {"name": "wait", "wait_signal": {"name": "go"}}
    task_id = await client.create(
        graph(wait, transform("next", "value.n + 1", depends_on=["wait"]))
    )
    waiting = await until_state(client, task_id, "WAITING")
    assert steps_of(waiting)["wait"].waits_for == "signal:go"
    await send(client, task_id, "go", {"n": 1})
    assert output_of(await client.wait(task_id)) == 2
    assert "TASK_SIGNALLED" in await client.history(task_id)


async def test_a_signal_that_does_not_come_has_a_default_or_fails_its_step(client: Client) -> None:
    soon = {"name": "go", "timeout": {"nanos": 50_000_000}}
    default = {**soon, "default": {"string_value": "nothing"}}
    task = await client.run(graph({"name": "wait", "wait_signal": default}))
    assert output_of(task) == "nothing"
    task = await client.run(graph({"name": "wait", "wait_signal": soon, "retry": NO_RETRY}))
    assert task.failure.reason == Reason.SIGNAL_TIMED_OUT


async def test_the_next_attempt_sees_the_last_heartbeat(client: Client) -> None:
    task_id = await client.create(graph(python("a", "features.beat", retry=AT_ONCE)))

    async def reported() -> bool:
        return (await client.step(task_id, "a")).HasField("heartbeat")

    await eventually(reported, 30)
    beaten[task_id].set()
    task = await client.wait(task_id)
    assert output_of(task) == {"done": 41}
    assert steps_of(task)["a"].attempt == 2


async def test_what_an_attempt_reports_right_before_it_fails_is_kept(client: Client) -> None:
    task = await client.run(graph(python("a", "features.beat_and_fail", retry=AT_ONCE)))
    assert output_of(task) == {"done": 7}


async def test_an_attempt_without_heartbeats_fails(client: Client) -> None:
    silent = python("a", "features.be_silent", retry={**AT_ONCE, "max_attempts": 2})
    task = await client.run(graph({**silent, "heartbeat_timeout": {"nanos": 50_000_000}}))
    assert task.failure.reason == Reason.STEP_HEARTBEAT_MISSED
    assert "STEP_RETRYING a 1" in await client.history(task.task_id)


@pytest.mark.parametrize(
    "what",
    [
        {"wait_signal": {"name": "never"}},
        {"python": {"function": "test.features.be_silent"}},
        {"subtask": {"graph": graph({"name": "w", "wait_signal": {"name": "never"}})}},
    ],
)
async def test_a_step_that_takes_too_long_in_all_fails(client: Client, what: Any) -> None:
    limit = {"schedule_to_close": {"nanos": 300_000_000}}
    task = await client.run(graph({"name": "a", **what, **limit}))
    assert state_of(task) == "FAILED"
    assert task.failure.reason == Reason.STEP_TIMED_OUT


async def test_reasons_that_nothing_mends_are_not_retried(client: Client) -> None:
    retry = {**AT_ONCE, "non_retryable_reasons": ["ValueError"]}
    task = await client.run(graph(python("a", "fail", retry=retry)))
    assert steps_of(task)["a"].attempt == 1
    assert not any("RETRYING" in line for line in await client.history(task.task_id))


async def test_a_task_that_takes_too_long_fails(client: Client) -> None:
    what = graph({"name": "a", "sleep": {"until": "3600"}})
    what.timeout.FromMilliseconds(200)
    task = await client.run(what)
    assert task.failure.reason == Reason.TASK_TIMED_OUT


async def test_a_subtask_gives_its_output(client: Client) -> None:
    inner = subtask("inner", transform("x", "value * 2"), input="input")
    task = await client.run(
        graph(subtask("outer", inner, input="21"), transform("y", "value", depends_on=["outer"]))
    )
    assert output_of(task) == 42


async def test_a_subtask_that_fails_fails_its_step(client: Client) -> None:
    task = await client.run(
        graph(subtask("sub", python("bad", "fail_permanently"), retry=NO_RETRY))
    )
    assert task.failure.reason == Reason.SUBTASK_FAILED
    child = await client.get(task.failure.metadata["task_id"])
    assert (state_of(child), child.parent_task_id) == ("FAILED", task.task_id)


async def test_a_subtask_is_cancelled_with_its_task(client: Client) -> None:
    task_id = await client.create(
        graph(subtask("sub", {"name": "w", "wait_signal": {"name": "no"}}))
    )
    waiting = await client.until(task_id, "sub", "WAITING")
    child_id = waiting.waits_for.removeprefix("task:")
    await until_state(client, child_id, "WAITING")
    await client.cancel(task_id)
    assert state_of(await client.wait(child_id)) == "CANCELLED"


async def test_what_has_succeeded_is_undone_last_first(client: Client) -> None:
    task = await client.run(
        graph(
            transform("a", "'a'", compensation=undone_by("undo")),
            transform("b", "'b'", depends_on=["a"], compensation=undone_by("undo_badly")),
            transform(
                "c",
                "value",
                depends_on=["b"],
                for_each="[1, 2]",
                max_parallel=1,
                compensation=undone_by("undo", input="output + 10"),
            ),
            python("bad", "fail", depends_on=["c"], retry=NO_RETRY),
        )
    )
    assert state_of(task) == "FAILED"
    assert undone[task.task_id] == [12, 11, "a"]
    assert task.failure.step_id == "bad"
    assert task.failure.metadata["compensation_failed"] == "b"
    assert "TASK_COMPENSATING" in await client.history(task.task_id)


async def test_many_items_of_a_step_with_a_long_name_are_undone(client: Client) -> None:
    """What undoes them cannot all be named after them."""
    name = "n" * 63
    task = await client.run(
        graph(
            transform(name, "item", for_each=f"{list(range(12))}", compensation=undone_by("undo")),
            python("bad", "fail", depends_on=[name], retry=NO_RETRY),
        )
    )
    assert "compensation_failed" not in task.failure.metadata
    assert sorted(undone[task.task_id]) == list(range(12))


async def test_what_steps_have_added_is_undone_with_the_rest(client: Client) -> None:
    """Down to what added steps have added, each with what its own expressions saw."""
    task = await client.run(
        graph(
            transform("a", "'a'", compensation=undone_by("undo")),
            python("trip", "features.book", depends_on=["a"], input="'rome'"),
            python("bad", "fail", depends_on=["trip"], retry=NO_RETRY),
        )
    )
    assert state_of(task) == "FAILED"
    assert undone[task.task_id] == ["car", "hotel 2", "hotel 1", "hotel in rome", "a"]
    assert task.failure.metadata["compensation_failed"] == "trip_taxi"
    async with refused() as error:
        await client.retry(task.task_id)
    assert error().reason == Reason.TASK_STATE_CONFLICT


async def test_what_was_added_is_undone_when_what_was_added_fails(client: Client) -> None:
    booked = python("trip", "features.book", input="'nowhere'")
    task = await client.run(graph(booked, transform("b", "1", depends_on=["trip"])))
    assert (state_of(task), task.failure.step_id) == ("FAILED", "trip/more")
    assert undone[task.task_id] == ["hotel 2", "hotel 1", "hotel in nowhere"]
    assert "STEP_EXPANDED ~undo 1" in await client.history(task.task_id)
    # Where nothing that was added can be undone, nothing is planned.
    task = await client.run(
        graph(python("a", "features.plan", input="1"), python("bad", "fail", depends_on=["a"]))
    )
    assert "TASK_COMPENSATING" not in await client.history(task.task_id)


async def test_added_steps_may_add_steps(client: Client) -> None:
    task = await client.run(
        graph(python("a", "features.plan", input="3"), transform("b", "value", depends_on=["a"]))
    )
    assert output_of(task) == 3
    assert states(task)["a/down/down/down"] == "SUCCEEDED"
    assert "STEP_EXPANDED a/down 1" in await client.history(task.task_id)


async def test_added_steps_may_not_add_steps_for_ever(client: Client) -> None:
    task = await client.run(graph(python("a", "features.plan", input="50", retry=NO_RETRY)))
    assert task.failure.reason == Reason.NESTED_TOO_DEEP


async def test_a_subtask_gets_large_numbers_as_they_are(client: Client) -> None:
    number = 2**53 + 1
    inner = transform("same", f"input == {number}")
    task = await client.run(graph(subtask("sub", inner, input=str(number))))
    assert output_of(task) is True


async def test_steps_are_not_added_to_a_queue_that_there_is_not(client: Client) -> None:
    # Nobody would take them up.
    for function, value in (("plan_elsewhere", 100), ("plan_subtask_elsewhere", 0)):
        task = await client.run(graph(python("a", f"features.{function}", input=str(value))))
        assert task.failure.reason == Reason.FIELD_INVALID
        assert "'nowhere' is not one of default, gpu, llm" in task.failure.message
        assert task.failure.metadata["field"].startswith("added.steps[0].")


async def test_what_added_steps_are_given_is_bounded_as_outputs_are(client: Client) -> None:
    most = 1024 * 1024 - 2
    task = await client.run(graph(python("a", "features.plan_much")), most)
    assert output_of(task) == most
    task = await client.run(graph(python("a", "features.plan_much")), most + 1)
    assert task.failure.reason == Reason.OUTPUT_TOO_LARGE
    assert task.failure.metadata == {"size_bytes": "1048577", "limit_bytes": "1048576"}


async def test_graphs_may_not_stand_in_each_other_for_ever(client: Client) -> None:
    what = transform("x", "1")
    for level in range(5):
        what = subtask(f"s{level}", what)
    async with refused() as error:
        await client.create(graph(what))
    assert error().reason == Reason.FIELD_INVALID
