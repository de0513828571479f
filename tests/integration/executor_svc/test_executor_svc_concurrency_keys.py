"""Concurrency keys of tasks in the record: waiting, and cancelling one for another."""

import asyncio
import json

from tests.integration.executor_svc.limit_record import REPUBLISH, limit_record

record = limit_record

QUEUE, CANCEL_IN_PROGRESS, CANCEL_NEWEST = 1, 2, 3


async def cancellation(record, task_id):
    """The detail of a task's last event, which must be its cancellation."""
    events = await record.pool.fetchval(
        "SELECT events FROM executor.task_events WHERE task_id = $1 ORDER BY last_cursor DESC",
        task_id,
    )
    type_, step_id, attempt, detail = json.loads(events)[-1]
    assert (type_, step_id, attempt) == (5, "", 0)
    return detail


async def end(record, task_id):
    """Run a task's only step."""
    session_id = await record.session()
    attempts = await record.claim(session_id, task_id, "a")
    accepted, effects = await record.settle(session_id, attempts)
    assert accepted == [True]
    return effects


async def test_tasks_wait_for_their_turn(record):
    tasks = [await record.keyed("k", most=2) for _ in range(4)]
    urgent = await record.keyed("k", most=2, priority=1)
    effects = await record.admit()
    assert {ref.task_id for ref in effects.ready} == {urgent, tasks[0]}
    assert await record.holders() == {(urgent, ""), (tasks[0], "")}
    assert (await record.state(tasks[1], "a"))[0] == "BLOCKED"
    effects = await end(record, urgent)
    assert effects.released == [("t", "k")]
    assert [ref.task_id for ref in (await record.admit()).ready] == [tasks[1]]
    assert not (await record.admit()).ready


async def test_steps_and_tasks_do_not_count_for_each_other(record):
    keyed = await record.keyed("k")
    assert [ref.task_id for ref in (await record.admit()).ready] == [keyed]
    assert await record.run(keyed, "a", most=1) == [True]
    other, waiting = await record.task("a"), await record.keyed("k")
    assert await record.run(other, "a", most=1) == [False]
    assert not (await record.admit()).ready
    await record.pool.execute("DELETE FROM executor.limit_holders WHERE step_id = ''")
    assert [ref.task_id for ref in (await record.admit()).ready] == [waiting]


async def test_the_newest_is_cancelled(record):
    running = await record.keyed("k", policy=CANCEL_NEWEST)
    await record.admit()
    newest = await record.keyed("k", policy=CANCEL_NEWEST)
    effects = await record.admit()
    assert await record.task_state(running) == "PENDING"
    assert await record.task_state(newest) == "CANCELLED"
    assert [batch.task_id for batch in effects.events] == [newest]
    assert await cancellation(record, newest) == {
        "concurrency_key": "k",
        "policy": "CANCEL_NEWEST",
    }
    assert await record.waiters() == 0
    assert await record.holders() == {(running, "")}


async def test_the_oldest_in_progress_is_cancelled(record):
    first, second = [await record.keyed("k", most=2) for _ in range(2)]
    await record.admit()
    session_id = await record.session()
    attempts = await record.claim(session_id, first, "a")
    newer = await record.keyed("k", most=2, policy=CANCEL_IN_PROGRESS)
    effects = await record.admit()
    assert [ref.task_id for ref in effects.ready] == [newer]
    assert await record.task_state(first) == "CANCELLED"
    assert await cancellation(record, first) == {
        "concurrency_key": "k",
        "policy": "CANCEL_IN_PROGRESS",
        "in_favour_of": str(newer),
    }
    assert await record.holders() == {(second, ""), (newer, "")}
    assert (await record.settle(session_id, attempts))[0] == [False]


async def test_of_several_that_come_at_once_the_last_one_stays(record):
    tasks = [await record.keyed("k", policy=CANCEL_IN_PROGRESS) for _ in range(5)]
    effects = await record.admit()
    assert [ref.task_id for ref in effects.ready] == [tasks[-1]]
    assert [await record.task_state(task_id) for task_id in tasks] == ["CANCELLED"] * 4 + [
        "PENDING"
    ]
    assert await record.holders() == {(tasks[-1], "")}
    assert await record.waiters() == 0


async def test_a_lower_bound_cancels_several(record):
    tasks = [await record.keyed("k", most=3) for _ in range(3)]
    await record.admit()
    newer = await record.keyed("k", most=1, policy=CANCEL_IN_PROGRESS)
    assert [ref.task_id for ref in (await record.admit()).ready] == [newer]
    assert {await record.task_state(task_id) for task_id in tasks} == {"CANCELLED"}


async def test_a_task_that_starts_later_asks_then(record):
    later = await record.keyed("k")
    await record.pool.execute(
        "UPDATE executor.limit_waiters SET not_before = now() + interval '1 hour'"
    )
    sooner = await record.keyed("k")
    assert [ref.task_id for ref in (await record.admit()).ready] == [sooner]
    await end(record, sooner)
    assert not (await record.admit()).ready
    assert await record.limits.due() == []
    assert await record.limits.next_due() is not None
    await record.pool.execute("UPDATE executor.limit_waiters SET not_before = now()")
    await record.pool.execute("UPDATE executor.limits SET due_at = now()")
    assert await record.limits.due() == [("t", "k")]
    assert [ref.task_id for ref in (await record.admit()).ready] == [later]
    assert await record.limits.next_due() is None


async def test_a_paused_task_keeps_waiting_and_then_holds_its_place(record):
    running, paused = await record.keyed("k"), await record.keyed("k")
    await record.admit()
    await record.pool.execute("SELECT executor.pause_task_v1($1)", paused)
    await record.pool.execute("SELECT executor.resume_task_v1($1, $2)", REPUBLISH, paused)
    assert (await record.state(paused, "a"))[0] == "BLOCKED"
    await record.pool.execute("SELECT executor.pause_task_v1($1)", paused)
    await end(record, running)
    assert not (await record.admit()).ready
    assert await record.holders() == {(paused, "")}
    assert (await record.state(paused, "a"))[0] == "BLOCKED"
    await record.pool.execute("SELECT executor.resume_task_v1($1, $2)", REPUBLISH, paused)
    assert (await record.state(paused, "a"))[0] == "READY"


async def test_a_task_that_is_continued_takes_a_place_again(record):
    first, second = await record.keyed("k"), await record.keyed("k")
    await record.admit()
    await record.pool.execute(
        "UPDATE executor.tasks SET state = 'FAILED', mark = 'FAILED', ended_at = now()"
        " WHERE task_id = $1",
        first,
    )
    await record.pool.execute("SELECT executor.after_end_v1(ARRAY[$1::uuid])", first)
    assert [ref.task_id for ref in (await record.admit()).ready] == [second]
    await record.pool.execute(
        "SELECT executor.retry_task_v1($1, $2, NULL, 'k', 1::smallint, 1)", REPUBLISH, first
    )
    assert not (await record.admit()).ready
    await end(record, second)
    await record.admit()
    assert await record.holders() == {(first, "")}


async def test_the_places_of_ended_tasks_are_freed(record):
    task_id = await record.keyed("k")
    await record.admit()
    assert not (await record.limits.tidy()).released
    await record.pool.execute(
        "UPDATE executor.tasks SET state = 'SUCCEEDED', ended_at = now() WHERE task_id = $1",
        task_id,
    )
    assert (await record.limits.tidy()).released == [("t", "k")]


async def test_many_wait_and_all_get_their_turn(record):
    """More than one call gives; several executors give at once."""
    tasks = {await record.keyed("k", most=50) for _ in range(45)}
    effects = await asyncio.gather(*(record.admit() for _ in range(4)))
    given = [ref.task_id for each in effects for ref in each.ready]
    assert len(given) == len(set(given)) == 45
    assert set(given) == tasks
    assert any(each.released for each in effects)


async def test_an_admission_waits_for_nobody_who_only_settles(record):
    """A transaction that frees a place holds no lock that giving one needs, and vice versa."""
    first, second = await record.keyed("k"), await record.keyed("k")
    await record.admit()
    async with record.pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM executor.limit_holders WHERE task_id = $1", first)
        async with asyncio.timeout(10):
            assert not (await record.admit()).ready
    assert [ref.task_id for ref in (await record.admit()).ready] == [second]
