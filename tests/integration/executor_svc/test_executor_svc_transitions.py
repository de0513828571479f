"""The transitions of the record, called directly: what two workers do to each other."""

import asyncio
import random
from datetime import timedelta

import pytest

from executor_svc.engine.outcomes import Expanded
from executor_svc.engine.records import StepAddress, StepRef
from executor_svc.tasks.creator import Submission, new_task
from tests.integration.executor_svc.executor_mesh import transform
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    LEASE,
    NULL,
    OUTPUT,
    Record,
    ready,
    settlement,
    transition_record,
)

__all__ = ["transition_record"]


async def test_a_step_is_claimed_once(record: Record) -> None:
    _, task = await record.task(transform("a", "1"))
    sessions = [await record.session() for _ in range(8)]
    claims = await asyncio.gather(
        *(record.claim(session_id, task.task_id, "a") for session_id in sessions)
    )
    assert sum(len(attempts) for attempts in claims) == 1


async def test_a_step_that_stands_twice_in_a_batch_is_claimed_once(record: Record) -> None:
    _, task = await record.task(transform("a", "1"))
    assert len(await record.claim(await record.session(), task.task_id, "a", "a")) == 1


async def test_a_result_is_recorded_once(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    first, _ = await record.settle(session_id, compiled, attempts)
    second, effects = await record.settle(session_id, compiled, attempts, FAILURE)
    assert [*first.accepted, *second.accepted] == [True, False]
    assert not effects.events
    assert await record.task_state(task.task_id) == "SUCCEEDED"


async def test_the_result_of_a_lost_attempt_is_refused(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"))
    old, new = await record.session(), await record.session()
    stale = await record.claim(old, task.task_id, "a")
    effects = await record.expire(old)
    assert ready(effects) == {("a", 2)}
    settled, _ = await record.settle(old, compiled, stale)
    assert settled.accepted == [False]
    # Nor by someone else's session, nor while the next attempt runs.
    fresh = await record.claim(new, task.task_id, "a", attempt=2)
    assert len(fresh) == 1
    for session_id in (old, new):
        settled, _ = await record.settle(session_id, compiled, stale)
        assert settled.accepted == [False]
    settled, _ = await record.settle(new, compiled, fresh)
    assert settled.accepted == [True]


async def test_what_a_session_without_a_lease_claims_is_given_back(record: Record) -> None:
    """A claim does not look for the session's lease: the sweep does, and finds the step."""
    _, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    await record.expire(session_id)
    assert await record.claim(session_id, task.task_id, "a")
    assert ready(await record.sweep.lose_orphans()) == {("a", 2)}
    assert await record.states(task.task_id) == {"a": ("READY", 2)}


async def test_what_a_settlement_starts_in_a_session_that_is_lost_is_given_back(
    record: Record,
) -> None:
    compiled, task = await record.task(transform("a", "1"), transform("b", "1", depends_on=["a"]))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    await record.sessions.close(session_id)
    settled, _ = await record.settle(session_id, compiled, attempts, claims=1)
    assert settled.accepted == [True]
    assert ready(await record.sweep.lose_orphans()) == {("b", 2)}


async def test_the_continuation_belongs_to_the_same_session(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"), transform("b", "1", depends_on=["a"]))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    settled, effects = await record.settle(session_id, compiled, attempts, claims=1)
    assert [attempt.step_id for attempt in settled.started] == ["b"]
    assert not effects.ready
    assert await record.states(task.task_id) == {"a": ("SUCCEEDED", 1), "b": ("RUNNING", 1)}
    assert ready(await record.expire(session_id)) == {("b", 2)}


@pytest.mark.parametrize("claims", [1, 0])
async def test_a_join_fires_once_however_its_steps_end(record: Record, claims: int) -> None:
    width = 12
    names = [f"s{number}" for number in range(width)]
    compiled, task = await record.task(
        *(transform(name, "1") for name in names), transform("join", "1", depends_on=names)
    )
    sessions = [await record.session() for _ in range(4)]
    claimed = [
        await record.claim(session_id, task.task_id, *names[place::4])
        for place, session_id in enumerate(sessions)
    ]
    answers = await asyncio.gather(
        *(
            record.settle(session_id, compiled, [attempt], claims=claims)
            for session_id, attempts in zip(sessions, claimed, strict=True)
            for attempt in attempts
        )
    )
    started = [attempt for settled, _ in answers for attempt in settled.started]
    published = [ref for _, effects in answers for ref in effects.ready]
    assert (len(started), len(published)) == ((1, 0) if claims else (0, 1))


async def test_a_join_whose_steps_end_in_one_batch_fires_once(record: Record) -> None:
    names = ["a", "b", "c"]
    compiled, task = await record.task(
        *(transform(name, "1") for name in names), transform("join", "1", depends_on=names)
    )
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, *names)
    settled, _ = await record.settle(session_id, compiled, attempts, claims=1)
    assert [attempt.step_id for attempt in settled.started] == ["join"]
    assert (await record.states(task.task_id))["join"] == ("RUNNING", 1)


async def test_nothing_of_a_cancelled_task_is_recorded(record: Record) -> None:
    compiled, task = await record.task(
        transform("a", "1"), transform("b", "1"), transform("c", "1", depends_on=["a"])
    )
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    assert await record.tasks.cancel(task.task_id) is not None
    settled, effects = await record.settle(session_id, compiled, attempts, claims=1)
    assert settled.accepted == [False]
    assert not effects.events
    assert await record.claim(session_id, task.task_id, "b") == []
    assert await record.tasks.cancel(task.task_id) is None
    assert await record.retry(task.task_id) is None
    assert not (await record.expire(session_id)).ready
    states = await record.states(task.task_id)
    assert set(states.values()) == {("CANCELLED", 1)}


async def test_two_retries_at_once_with_one_request_id_are_one(record: Record) -> None:
    compiled, task = await record.task(transform("bad", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "bad")
    await record.settle(session_id, compiled, attempts, FAILURE)
    effects = await asyncio.gather(*(record.retry(task.task_id, "r") for _ in range(5)))
    assert sum(each is not None for each in effects) == 1


async def test_steps_unknown_to_their_worker_are_given_back(record: Record) -> None:
    _, task = await record.task(transform("known", "1"), transform("unknown", "1"))
    session_id = await record.session()
    await record.claim(session_id, task.task_id, "known", "unknown")
    known = [StepAddress(task.task_id, "known")]
    young = await record.steps.give_back_unknown(session_id, lambda: known, older_than=LEASE)
    assert not young.ready
    effects = await record.steps.give_back_unknown(
        session_id, lambda: known, older_than=timedelta(0)
    )
    assert ready(effects) == {("unknown", 2)}
    assert await record.states(task.task_id) == {"known": ("RUNNING", 1), "unknown": ("READY", 2)}


async def test_a_task_is_created_once_although_the_answer_was_lost(record: Record) -> None:
    _, task = await record.task(transform("a", "1"))
    assert await record.tasks.create([task])
    assert await record.pool.fetchval("SELECT count(*) FROM executor.tasks") == 1
    assert await record.pool.fetchval("SELECT count(*) FROM executor.steps") == 1


async def test_tasks_are_created_together_or_not_at_all(record: Record) -> None:
    compiled, task = await record.task(transform("a", "1"), request_id="r")
    fresh = new_task(Submission("default", compiled, NULL))
    raced = new_task(Submission("default", compiled, NULL, request_id="r"))
    assert not await record.tasks.create([fresh, raced])
    assert await record.pool.fetchval("SELECT count(*) FROM executor.tasks") == 1
    (existing,) = (await record.tasks.find([fresh, raced])).values()
    assert existing.task_id == task.task_id


async def test_steps_that_stay_ready_are_published_again_and_ever_more_rarely(
    record: Record,
) -> None:
    _, task = await record.task(transform("a", "1"))
    patient = {"default": timedelta(0), "gpu": timedelta(0)}
    assert not (await record.sweep.republish(patient)).ready
    for _ in range(3):
        await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '1 s'")
        busy = {"default": timedelta(seconds=100), "gpu": timedelta(0)}
        assert not (await record.sweep.republish(busy)).ready
        assert [r.step_id for r in (await record.sweep.republish(patient)).ready] == ["a"]
        assert not (await record.sweep.republish(patient)).ready
    wait = await record.pool.fetchval("SELECT due_at - now() FROM executor.steps")
    assert timedelta(seconds=200) < wait <= timedelta(seconds=240)
    # A queue that is never empty does not strand a message that was lost.
    await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '101 s'")
    assert [r.step_id for r in (await record.sweep.republish(busy)).ready] == ["a"]
    assert await record.states(task.task_id) == {"a": ("READY", 1)}


async def test_sweeps_at_once_do_not_take_the_same_rows(record: Record) -> None:
    for _ in range(20):
        await record.task(transform("a", "1"))
    await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '1 s'")
    found = await asyncio.gather(
        *(record.sweep.republish({"default": timedelta(0)}) for _ in range(5))
    )
    ids = [ref.task_id for effects in found for ref in effects.ready]
    assert len(ids) == len(set(ids)) == 20


async def test_cursors_have_no_gap_whatever_happens(record: Record) -> None:
    compiled, task = await record.task(
        transform("each", "1", for_each="[1, 2]"),
        transform("bad", "1"),
        transform("after", "1", depends_on=["each"]),
    )
    session_id, other = await record.session(), await record.session()
    (each,) = await record.claim(session_id, task.task_id, "each")
    await record.settle(session_id, compiled, [each], Expanded([b"1", b"2"]))
    items = await record.claim(other, task.task_id, "each[0]", "each[1]")
    await record.expire(other)
    (bad,) = await record.claim(session_id, task.task_id, "bad")
    await record.settle(session_id, compiled, [bad], FAILURE)
    await record.retry(task.task_id, "r")
    await record.settle(other, compiled, items)
    items = await record.claim(session_id, task.task_id, "each[0]", attempt=3)
    items += await record.claim(session_id, task.task_id, "each[1]", attempt=3)
    await record.settle(session_id, compiled, items, claims=1)
    await record.tasks.cancel(task.task_id)
    recorded = await record.tasks.get(task.task_id, tenant_id="default")
    events = await record.tasks.events(recorded, after=0, limit=1000)
    assert [event.cursor for event in events] == list(range(1, recorded.last_cursor + 1))
    for after in range(recorded.last_cursor):
        page = await record.tasks.events(recorded, after=after, limit=1)
        assert page[0].cursor == after + 1


async def test_transitions_at_once_do_not_deadlock(record: Record) -> None:
    """Claims, settlements, sweeps, cancels and retries of the same tasks, all together."""
    rng = random.Random(7)
    made = [
        await record.task(
            transform("a", "1"), transform("b", "1"), transform("c", "1", depends_on=["a", "b"])
        )
        for _ in range(10)
    ]
    ids = [task.task_id for _, task in made]
    graphs = {task.task_id: compiled for compiled, task in made}

    async def work(seed: int) -> None:
        own = random.Random(seed)
        session_id = await record.session()
        for _ in range(15):
            refs = [
                StepRef(task_id, own.choice("abc"), own.randint(1, 4), "default")
                for task_id in own.sample(ids, 6)
            ]
            settlements = [
                settlement(
                    graphs[attempt.task.task_id], attempt, own.choice([OUTPUT, OUTPUT, FAILURE])
                )
                for attempt in await record.steps.claim(session_id, refs)
                if own.random() < 0.8
            ]
            own.shuffle(settlements)
            await record.steps.settle(session_id, settlements)
            await record.retry(own.choice(ids))
        await record.expire(session_id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(seed) for seed in range(6)))
        await record.tasks.cancel(rng.choice(ids))
    deadlocks = await record.pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
    # Every event has a number of its own, and there is none between.
    rows = await record.pool.fetch(
        "SELECT t.last_cursor, 1 + coalesce(sum(json_array_length(e.events::json)), 0) AS counted"
        " FROM executor.tasks t LEFT JOIN executor.task_events e USING (task_id)"
        " GROUP BY t.task_id"
    )
    assert all(row["last_cursor"] == row["counted"] for row in rows)
