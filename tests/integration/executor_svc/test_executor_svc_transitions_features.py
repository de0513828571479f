"""Transitions of steps that skip, wait, join and hold, called directly."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from executor_svc.engine.outcomes import Added, Compensated, Expanded, Skipped, Succeeded, Waits
from executor_svc.engine.records import Blob, Phase, StepAddress, Trait
from stepwire.api.executor.v1 import graph_pb2
from tests.integration.executor_svc.executor_mesh import python, transform
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    RETRYABLE,
    Record,
    compiled_graph,
    ready,
    settlement,
    transition_record,
    undo_settlement,
)

__all__ = ["transition_record"]

HOUR = timedelta(hours=1)
SIGNAL = Waits("signal:go", wait=HOUR)
ANY = {"mode": graph_pb2.JOIN_MODE_ANY}
TWO = {"mode": graph_pb2.JOIN_MODE_AT_LEAST, "at_least": 2}
ALL_DONE = {"mode": graph_pb2.JOIN_MODE_ALL_DONE}


async def test_what_depends_on_a_skipped_step_learns_it(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1", when="false"),
        transform("b", "1", depends_on=["a"]),
        transform("c", "1", depends_on=["a"], join=ALL_DONE),
    )
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a", outcome=Skipped())
    b, c = await record.claim(session_id, task.task_id, "b", "c")
    assert (b.phase, c.phase) == (Phase.UNSATISFIED, Phase.NEW)
    await record.settle(session_id, compiled, [b], Skipped())
    await record.settle(session_id, compiled, [c])
    assert await record.task_state(task.task_id) == "SUCCEEDED"


async def test_what_a_skip_leaves_over_ends_with_the_task(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1", when="false"),
        transform("slow", "1"),
        transform("c", "1", depends_on=["a", "slow"]),
    )
    session_id = await record.session()
    (slow,) = await record.claim(session_id, task.task_id, "slow")
    await record.run(session_id, compiled, task.task_id, "a", outcome=Skipped())
    await record.run(session_id, compiled, task.task_id, "c", outcome=Skipped())
    assert await record.task_state(task.task_id) == "SUCCEEDED"
    assert await record.state(task.task_id, "slow") == "CANCELLED"
    settled, _ = await record.settle(session_id, compiled, [slow])
    assert settled.accepted == [False]


@pytest.mark.parametrize(("join", "enough"), [(ANY, 1), (TWO, 2), (ALL_DONE, 3)])
async def test_a_join_starts_once_it_has_enough(
    record: Record, join: dict[str, int], enough: int
) -> None:
    names = ["a", "b", "c"]
    compiled, task = await record.task(
        *(transform(name, "1") for name in names),
        transform("join", "1", depends_on=names, join=join),
    )
    session_id = await record.session()
    fired = [ready(await record.run(session_id, compiled, task.task_id, name)) for name in names]
    assert fired == [{("join", 1)} if place == enough else set() for place in (1, 2, 3)]


async def test_a_join_goes_on_without_steps_that_fail_while_it_can(record: Record) -> None:
    names = ["a", "b", "c"]
    compiled, task = await record.task(
        *(transform(name, "1") for name in names),
        transform("join", "1", depends_on=names, join=TWO),
    )
    session_id = await record.session()
    assert not (await record.run(session_id, compiled, task.task_id, "a", outcome=FAILURE)).ready
    assert await record.task_state(task.task_id) == "RUNNING"
    effects = await record.run(session_id, compiled, task.task_id, "b", outcome=FAILURE)
    assert ready(effects) == {("join", 1)}
    (join,) = await record.claim(session_id, task.task_id, "join")
    assert join.phase is Phase.UNSATISFIED
    # Another attempt finds it so, too; a retry of the task runs again what it lacks.
    await record.settle(session_id, compiled, [join], RETRYABLE)
    assert ready(await record.wake()) == {("join", 2)}
    (join,) = await record.claim(session_id, task.task_id, "join", attempt=2)
    assert join.phase is Phase.UNSATISFIED
    await record.settle(session_id, compiled, [join], FAILURE)
    assert ready(await record.retry(task.task_id)) == {("a", 2), ("b", 2), ("c", 1)}


async def test_what_is_not_needed_any_more_is_no_item(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1"),
        transform("late", "1"),
        transform("each", "1", for_each="[1, 2]", depends_on=["a", "late"], join=ANY),
    )
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a")
    await record.run(session_id, compiled, task.task_id, "each", outcome=Expanded([b"1", b"2"]))
    assert not (await record.run(session_id, compiled, task.task_id, "late")).ready
    assert not (await record.run(session_id, compiled, task.task_id, "each[0]")).ready
    effects = await record.run(session_id, compiled, task.task_id, "each[1]")
    assert ready(effects) == {("each", 1)}


async def test_items_start_as_others_end(record: Record) -> None:
    compiled, task = await record.task(
        transform("each", "1", for_each="[1, 2, 3, 4]", max_parallel=2)
    )
    session_id, other = await record.session(), await record.session()
    items = Expanded([b"1", b"2", b"3", b"4"])
    effects = await record.run(session_id, compiled, task.task_id, "each", outcome=items)
    assert ready(effects) == {("each[0]", 1), ("each[1]", 1)}
    both = await record.claim(session_id, task.task_id, "each[0]")
    both += await record.claim(other, task.task_id, "each[1]")
    answers = await asyncio.gather(
        record.settle(session_id, compiled, both[:1]), record.settle(other, compiled, both[1:])
    )
    assert {each for _, effects in answers for each in ready(effects)} == {
        ("each[2]", 1),
        ("each[3]", 1),
    }
    effects = await record.run(session_id, compiled, task.task_id, "each[2]", "each[3]")
    assert ready(effects) == {("each", 1)}


async def test_items_that_are_not_needed_any_more_are_cancelled(record: Record) -> None:
    compiled, task = await record.task(
        transform("each", "1", for_each="[1, 2, 3]", items_join=ANY),
        transform("after", "1", depends_on=["each"]),
    )
    session_id = await record.session()
    items = Expanded([b"1", b"2", b"3"])
    await record.run(session_id, compiled, task.task_id, "each", outcome=items)
    (slow,) = await record.claim(session_id, task.task_id, "each[0]")
    await record.run(session_id, compiled, task.task_id, "each[1]")
    await record.run(session_id, compiled, task.task_id, "each", outcome=Succeeded(None))
    states = await record.states(task.task_id)
    assert {states[f"each[{n}]"][0] for n in (0, 2)} == {"CANCELLED"}
    settled, _ = await record.settle(session_id, compiled, [slow])
    assert settled.accepted == [False]
    await record.run(session_id, compiled, task.task_id, "after")
    assert await record.task_state(task.task_id) == "SUCCEEDED"


async def test_a_wait_ends_by_the_clock(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    sleep = Waits("sleep", wait=HOUR)
    await record.run(session_id, compiled, task.task_id, "a", outcome=sleep)
    assert not (await record.sweep.wake_due()).ready
    assert await record.sweep.next_due() is not None
    assert ready(await record.wake()) == {("a", 1)}
    (attempt,) = await record.claim(session_id, task.task_id, "a")
    assert attempt.phase is Phase.CAME


async def test_a_step_waits_no_longer_than_its_lifetime(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1", schedule_to_close={"seconds": 600}))
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a", outcome=SIGNAL)
    wait = await record.pool.fetchval("SELECT due_at - ready_at FROM executor.steps")
    assert wait == timedelta(seconds=600)


async def test_a_settlement_made_again_does_not_wait_again(record: Record) -> None:
    """As happens when the answer to its commit was lost: by now the step runs again."""
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    await record.settle(session_id, compiled, attempts, SIGNAL)
    assert ready(await record.signal(task.task_id, "go")) == {("a", 1)}
    again = await record.claim(session_id, task.task_id, "a")
    settled, _ = await record.settle(session_id, compiled, attempts, SIGNAL)
    assert settled.accepted == [False]
    settled, _ = await record.settle(session_id, compiled, again)
    assert settled.accepted == [True]


async def test_signals_are_kept_and_each_is_taken_once(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"), transform("b", "1"))
    session_id = await record.session()
    assert not (await record.signal(task.task_id, "other")).ready
    assert not (await record.signal(task.task_id, "go", b"1")).ready
    a, b = await record.claim(session_id, task.task_id, "a", "b")
    _, effects = await record.settle(session_id, compiled, [a, b], SIGNAL)
    assert ready(effects) == {("a", 1)}
    assert ready(await record.signal(task.task_id, "go", b"2")) == {("b", 1)}
    came = await record.claim(session_id, task.task_id, "a", "b")
    assert [each.inbox for each in came] == [b"1", b"2"]


async def test_a_signal_that_was_given_back_is_taken_by_one_step_alone(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"), transform("b", "1"))
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a", outcome=SIGNAL)
    await record.signal(task.task_id, "go", b"7")
    await record.run(session_id, compiled, task.task_id, "a", outcome=FAILURE)
    await record.retry(task.task_id)
    await record.run(session_id, compiled, task.task_id, "b", outcome=SIGNAL)
    await record.run(session_id, compiled, task.task_id, "a", outcome=SIGNAL, attempt=2)
    assert ready(await record.wake()) == {("a", 2)}, "b has what came"
    (a,) = await record.claim(session_id, task.task_id, "a", attempt=2)
    (b,) = await record.claim(session_id, task.task_id, "b")
    assert (a.inbox, b.inbox) == (None, b"7")


async def test_what_came_is_still_there_after_a_loss_or_a_refusal(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"))
    session_id, other = await record.session(), await record.session()
    await record.run(session_id, compiled, task.task_id, "a", outcome=SIGNAL)
    await record.signal(task.task_id, "go", b"7")
    assert await record.claim(other, task.task_id, "a")
    assert ready(await record.expire(other)) == {("a", 2)}
    (attempt,) = await record.claim(session_id, task.task_id, "a", attempt=2)
    await record.settle(session_id, compiled, [attempt], Waits("worker", wait=HOUR))
    assert ready(await record.wake()) == {("a", 2)}
    (attempt,) = await record.claim(session_id, task.task_id, "a", attempt=2)
    assert (attempt.phase, attempt.inbox) == (Phase.CAME, b"7")


@pytest.mark.parametrize("ends_first", [True, False])
async def test_the_end_of_a_subtask_wakes_its_parent(record: Record, *, ends_first: bool) -> None:
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    inner, child = await record.subtask(attempts[0])
    waits = Waits(f"task:{child.task_id}", keep=orjson.dumps(str(child.task_id)))
    if ends_first:
        await record.run(session_id, inner, child.task_id, "c")
        _, effects = await record.settle(session_id, compiled, attempts, waits)
        assert ready(effects) == {("a", 1)}
    else:
        await record.settle(session_id, compiled, attempts, waits)
        await record.run(session_id, inner, child.task_id, "c")
    assert await record.notices(child.task_id) == ["parent"]
    parent = StepAddress(task.task_id, "a")
    effects = await record.tasks.wake_parent(parent, child.task_id)
    assert ready(effects) == (set() if ends_first else {("a", 1)})
    assert not (await record.tasks.wake_parent(parent, child.task_id)).ready


async def test_a_task_that_is_cancelled_leaves_a_notice_for_its_subtask(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    _, child = await record.subtask(attempts[0])
    await record.settle(session_id, compiled, attempts, Waits(f"task:{child.task_id}"))
    effects = await record.tasks.cancel(task.task_id)
    assert effects is not None
    assert effects.notices
    assert await record.notices(task.task_id) == ["cancel_child"]


async def test_steps_that_are_added_run_before_what_follows(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"), transform("b", "1", depends_on=["a"]))
    added = compiled_graph(transform("x", "1"), transform("y", "1", depends_on=["x"]))
    await record.steps.add_graph(added)
    session_id = await record.session()
    adds = Added(added, b"5")
    effects = await record.run(session_id, compiled, task.task_id, "a", outcome=adds)
    assert ready(effects) == {("a/x", 1)}
    (x,) = await record.claim(session_id, task.task_id, "a/x")
    assert x.input == Blob(b"5", "application/json")
    settled, _ = await record.settle(session_id, added, [x], claims=1)
    assert [each.step_id for each in settled.started] == ["a/y"]
    _, effects = await record.settle(session_id, added, settled.started)
    assert ready(effects) == {("a", 1)}
    assert ready(await record.run(session_id, compiled, task.task_id, "a")) == {("b", 1)}


async def test_what_is_added_and_fails_in_one_batch_is_undone(record: Record) -> None:
    """What the task can be undone by is known before its failure is judged; once recorded."""
    compiled, task = await record.task(transform("plan", "1"), transform("bad", "1"))
    undone = transform("x", "1", compensation={"python": {"function": "undo"}})
    added = compiled_graph(undone)
    await record.steps.add_graph(added)
    session_id = await record.session()
    plan, bad = await record.claim(session_id, task.task_id, "plan", "bad")
    stale = replace(plan, attempt=7)
    await record.steps.settle(session_id, [settlement(compiled, stale, Added(added, b"5"))])
    traits = "SELECT traits FROM executor.tasks"
    assert await record.pool.fetchval(traits) == Trait.NONE
    _, effects = await record.steps.settle(
        session_id,
        [settlement(compiled, bad, FAILURE), settlement(compiled, plan, Added(added, b"5"))],
    )
    assert await record.pool.fetchval(traits) == Trait.COMPENSATES
    assert ready(effects) == {("~undo", 1)}
    assert await record.state(task.task_id, "plan/x") == "BLOCKED"


async def test_a_task_with_compensations_fails_once_they_are_over(record: Record) -> None:
    undone = transform("a", "1", compensation={"python": {"function": "undo"}})
    compiled, task = await record.task(undone, transform("bad", "1"))
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a")
    effects = await record.run(session_id, compiled, task.task_id, "bad", outcome=FAILURE)
    assert ready(effects) == {("~undo", 1)}
    assert await record.task_state(task.task_id) == "RUNNING"
    (undo,) = await record.claim(session_id, task.task_id, "~undo")
    plan = compiled_graph(python("a", "undo"))
    await record.steps.add_graph(plan)
    await record.steps.settle(session_id, [undo_settlement(undo, Added(plan, b"{}"))])
    assert ready(await record.run(session_id, plan, task.task_id, "~undo/a")) == {("~undo", 1)}
    (undo,) = await record.claim(session_id, task.task_id, "~undo")
    await record.steps.settle(session_id, [undo_settlement(undo, Compensated(["a"]))])
    row = await record.pool.fetchrow("SELECT state, failure FROM executor.tasks")
    assert row["state"] == "FAILED"
    assert orjson.loads(row["failure"])["metadata"] == {"compensation_failed": "a"}
    assert await record.retry(task.task_id) is None


async def test_a_deadline_fails_the_task_and_a_retry_gets_another(record: Record) -> None:
    compiled, task = await record.task(
        transform("runs", "1"), transform("waits", "1"), transform("ready", "1"), timeout=HOUR
    )
    session_id = await record.session()
    (runs,) = await record.claim(session_id, task.task_id, "runs")
    await record.run(session_id, compiled, task.task_id, "waits", outcome=SIGNAL)
    assert not (await record.sweep.expire_tasks()).events
    await record.pool.execute("UPDATE executor.deadlines SET deadline = now()")
    assert (await record.sweep.expire_tasks()).events
    assert await record.task_state(task.task_id) == "FAILED"
    settled, _ = await record.settle(session_id, compiled, [runs])
    assert settled.accepted == [False]
    assert await record.states(task.task_id) == {
        "runs": ("BLOCKED", 2),
        "waits": ("WAITING", 1),
        "ready": ("BLOCKED", 1),
    }
    assert ready(await record.retry(task.task_id)) == {("runs", 2), ("ready", 1)}
    assert await record.sweep.next_due() is not None


async def test_a_paused_task_holds_its_steps_in_whatever_state_they_are(record: Record) -> None:
    compiled, task = await record.task(
        transform("runs", "1"),
        transform("behind", "1", depends_on=["runs"]),
        transform("sleeps", "1"),
        transform("signalled", "1"),
        transform("lost", "1"),
        transform("ready", "1"),
    )
    session_id, other = await record.session(), await record.session()
    (runs,) = await record.claim(session_id, task.task_id, "runs")
    await record.run(
        session_id, compiled, task.task_id, "sleeps", outcome=Waits("sleep", wait=HOUR)
    )
    await record.run(session_id, compiled, task.task_id, "signalled", outcome=SIGNAL)
    await record.claim(other, task.task_id, "lost")
    assert await record.tasks.pause(task.task_id, request_id="") is not None
    assert await record.tasks.pause(task.task_id, request_id="") is None
    assert await record.claim(session_id, task.task_id, "ready") == []
    settled, effects = await record.settle(session_id, compiled, [runs], claims=1)
    assert (settled.accepted, settled.started, effects.ready) == ([True], [], [])
    assert not (await record.signal(task.task_id, "go")).ready
    assert not (await record.expire(other)).ready
    assert not (await record.wake()).ready
    names = ("behind", "sleeps", "signalled", "ready")
    effects = await record.tasks.resume(task.task_id, request_id="")
    assert ready(effects) == {("lost", 2), *((name, 1) for name in names)}
    phases = {
        each.step_id: each.phase for each in await record.claim(session_id, task.task_id, *names)
    }
    assert (phases["sleeps"], phases["ready"]) == (Phase.CAME, Phase.NEW)
