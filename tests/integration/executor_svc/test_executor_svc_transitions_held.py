"""Transitions of steps that are held: their task has failed, and RetryTask may continue it."""

from datetime import timedelta

import pytest

from executor_svc.engine.outcomes import Expanded, Waits
from executor_svc.engine.records import Phase, Place
from executor_svc.store import PostgresLimitStore
from executor_svc.tasks.places import QUEUE
from tests.integration.executor_svc.executor_mesh import transform
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    OUTPUT,
    REPUBLISH,
    RETRYABLE,
    Record,
    ready,
    settlement,
    transition_record,
)

__all__ = ["transition_record"]


async def test_what_is_ready_is_held_when_its_task_fails(record: Record) -> None:
    compiled, task = await record.task(
        transform("bad", "1"),
        transform("ready", "1"),
        transform("running", "1"),
        transform("behind", "1", depends_on=["running"]),
    )
    session_id = await record.session()
    bad, running = await record.claim(session_id, task.task_id, "bad", "running")
    await record.settle(session_id, compiled, [bad], FAILURE)
    assert await record.claim(session_id, task.task_id, "ready") == []
    settled, effects = await record.settle(session_id, compiled, [running], claims=1)
    assert settled.accepted == [True]
    assert not settled.started
    assert not effects.ready
    assert await record.states(task.task_id) == {
        "bad": ("FAILED", 1),
        "ready": ("BLOCKED", 1),
        "running": ("SUCCEEDED", 1),
        "behind": ("BLOCKED", 1),
    }
    again = await record.retry(task.task_id)
    assert ready(again) == {("bad", 2), ("ready", 1), ("behind", 1)}


async def test_a_join_that_becomes_full_in_a_failed_task_is_held(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1"),
        transform("b", "1"),
        transform("bad", "1"),
        transform("join", "1", depends_on=["a", "b"]),
    )
    session_id = await record.session()
    a, b, bad = await record.claim(session_id, task.task_id, "a", "b", "bad")
    # All in one batch, the failure last.
    settlements = [
        settlement(compiled, attempt, outcome, claims=1)
        for attempt, outcome in ((a, OUTPUT), (b, OUTPUT), (bad, FAILURE))
    ]
    settled, effects = await record.steps.settle(session_id, settlements)
    assert all(settled.accepted)
    assert not settled.started
    assert not effects.ready
    assert await record.task_state(task.task_id) == "FAILED"
    assert (await record.states(task.task_id))["join"] == ("BLOCKED", 1)
    assert ready(await record.retry(task.task_id)) == {("bad", 2), ("join", 1)}


async def test_items_held_by_a_failure_come_back(record: Record) -> None:
    compiled, task = await record.task(
        transform("each", "1", for_each="[1, 2, 3]"), transform("bad", "1")
    )
    session_id = await record.session()
    each, bad = await record.claim(session_id, task.task_id, "each", "bad")
    await record.settle(session_id, compiled, [bad], FAILURE)
    await record.settle(session_id, compiled, [each], Expanded([b"1", b"2", b"3"]))
    states = await record.states(task.task_id)
    assert states["each"] == ("WAITING", 1)
    assert {states[f"each[{n}]"] for n in range(3)} == {("BLOCKED", 1)}
    again = ready(await record.retry(task.task_id))
    assert again == {("bad", 2), ("each[0]", 1), ("each[1]", 1), ("each[2]", 1)}


@pytest.mark.parametrize("fails_first", [True, False])
async def test_a_retry_that_is_due_in_a_failed_task_is_held(
    record: Record, *, fails_first: bool
) -> None:
    compiled, task = await record.task(transform("later", "1"), transform("bad", "1"))
    session_id = await record.session()
    later, bad = await record.claim(session_id, task.task_id, "later", "bad")
    both = [(bad, FAILURE), (later, RETRYABLE)]
    for attempt, outcome in both if fails_first else reversed(both):
        await record.settle(session_id, compiled, [attempt], outcome)
    assert (await record.states(task.task_id))["later"] == ("WAITING", 2)
    assert not (await record.wake()).ready
    assert (await record.states(task.task_id))["later"] == ("BLOCKED", 2)
    assert await record.sweep.next_due() is None
    assert ready(await record.retry(task.task_id)) == {("later", 2), ("bad", 2)}


async def test_a_step_lost_in_a_failed_task_is_held(record: Record) -> None:
    compiled, task = await record.task(transform("lost", "1"), transform("bad", "1"))
    session_id, other = await record.session(), await record.session()
    await record.claim(other, task.task_id, "lost")
    (bad,) = await record.claim(session_id, task.task_id, "bad")
    await record.settle(session_id, compiled, [bad], FAILURE)
    effects = await record.expire(other)
    assert not effects.ready
    assert (await record.states(task.task_id))["lost"] == ("BLOCKED", 2)


async def test_what_ends_after_the_failure_counts_for_the_retry(record: Record) -> None:
    compiled, task = await record.task(transform("bad", "1"), transform("late", "1"))
    session_id = await record.session()
    (late,) = await record.claim(session_id, task.task_id, "late")
    await record.run(session_id, compiled, task.task_id, "bad", outcome=FAILURE)
    settled, _ = await record.settle(session_id, compiled, [late])
    assert settled.accepted == [True]
    assert ready(await record.retry(task.task_id)) == {("bad", 2)}
    await record.run(session_id, compiled, task.task_id, "bad", attempt=2)
    assert await record.task_state(task.task_id) == "SUCCEEDED"


async def test_a_retried_task_does_nothing_before_it_has_its_key_again(record: Record) -> None:
    """Neither what waits in it goes on, nor what follows a step that was running."""
    lifetime = {"schedule_to_close": {"seconds": 3600}}
    compiled, task = await record.task(
        transform("bad", "1"),
        transform("sleeps", "1"),
        transform("running", "1"),
        transform("behind", "1", depends_on=["running"]),
        transform("items", "1", for_each="[1]", **lifetime),
    )
    session_id, task_id = await record.session(), task.task_id
    sleep = Waits("sleep", wait=timedelta(hours=1))
    await record.run(session_id, compiled, task_id, "sleeps", outcome=sleep)
    await record.run(session_id, compiled, task_id, "items", outcome=Expanded([b"1"]))
    bad, running = await record.claim(session_id, task_id, "bad", "running")
    await record.settle(session_id, compiled, [bad], FAILURE)
    place = Place("k", 1, QUEUE)
    assert not ready(await record.retry(task_id, place=place))
    assert not ready(await record.wake())
    _, effects = await record.settle(session_id, compiled, [running], claims=1)
    assert not ready(effects)
    # Nor does a pause change this.
    await record.tasks.pause(task_id, request_id="")
    assert not ready(await record.tasks.resume(task_id, request_id=""))
    assert await record.task_state(task_id) == "WAITING"
    limits = PostgresLimitStore(record.pool, republish_after=REPUBLISH)
    admitted = ready(await limits.admit([("default", "k")]))
    assert admitted == {("bad", 2), ("sleeps", 1), ("behind", 1), ("items[0]", 1)}
    assert await record.task_state(task_id) == "RUNNING"
    left = "SELECT due_at > now() FROM executor.steps WHERE step_id = 'items'"
    assert await record.pool.fetchval(left)


async def test_a_signal_outlives_the_failure_of_its_step(record: Record) -> None:
    """Whoever gave it does not give it again."""
    compiled, task = await record.task({"name": "ask", "wait_signal": {"name": "go"}})
    session_id, task_id = await record.session(), task.task_id
    waits = Waits("signal:go", wait=timedelta(hours=1))
    await record.run(session_id, compiled, task_id, "ask", outcome=waits)
    assert ready(await record.signal(task_id, "go", b"7")) == {("ask", 1)}
    await record.run(session_id, compiled, task_id, "ask", outcome=FAILURE)
    assert ready(await record.retry(task_id)) == {("ask", 2)}
    attempts = await record.claim(session_id, task_id, "ask", attempt=2)
    _, effects = await record.settle(session_id, compiled, attempts, waits)
    assert ready(effects) == {("ask", 2)}
    (again,) = await record.claim(session_id, task_id, "ask", attempt=2)
    assert (again.phase, again.inbox) == (Phase.CAME, b"7")
