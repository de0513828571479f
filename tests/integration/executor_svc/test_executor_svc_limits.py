"""Limits of steps in the record: places, turns, rates, and what a lost worker keeps."""

import asyncio
import itertools
import random
from datetime import timedelta

from executor_svc.engine.ports import Want
from executor_svc.engine.records import StepState
from tests.integration.executor_svc.limit_record import REPUBLISH, limit_record

record = limit_record

LONG = timedelta(days=1)


async def test_places_are_given_in_order_and_no_more_than_there_are(record):
    task_id = await record.task("a", "b", "c", "d")
    session_id = await record.session()
    attempts = await record.claim(session_id, task_id, "a", "b", "c", "d")
    granted, effects = await record.acquire(session_id, attempts, most=2)
    assert granted == [True, True, False, False]
    assert [batch.events for batch in effects.events] == [
        '[[17,"c",1,{"for": "limit:k"}],[17,"d",1,{"for": "limit:k"}]]'
    ]
    assert await record.state(task_id, "a") == ("RUNNING", 1)
    waiting = await record.step(task_id, "c")
    assert (waiting["state"], waiting["waits_for"], waiting["due_at"]) == (
        "WAITING",
        "limit:k",
        None,
    )
    # Whoever begins to wait looks once more: a place may have become free meanwhile.
    assert effects.released == [("t", "k")]
    assert not (await record.admit()).ready
    accepted, effects = await record.settle(session_id, attempts[:1])
    assert accepted == [True]
    assert effects.released == [("t", "k")]
    assert [ref.step_id for ref in (await record.admit()).ready] == ["c"]
    assert await record.state(task_id, "c") == ("READY", 1)
    assert await record.holders() == {(task_id, "b"), (task_id, "c")}


async def test_a_want_that_is_repeated_is_granted_again_and_counts_once(record):
    task_id = await record.task("a", "b")
    session_id = await record.session()
    attempts = await record.claim(session_id, task_id, "a", "b")
    for _ in range(3):
        granted, _ = await record.acquire(session_id, attempts, most=1)
        assert granted == [True, False]
    assert await record.holders() == {(task_id, "a")}
    assert await record.waiters() == 1


async def test_nobody_overtakes_those_who_wait_but_by_priority(record):
    low = await record.task("a", "b", "c", priority=5)
    high = await record.task("a", priority=1)
    assert await record.run(low, "a", most=1) == [True]
    assert await record.run(low, "b", most=1) == [False]
    # There would be room by its own figures, but somebody waits already.
    assert await record.run(low, "c", most=5) == [False]
    assert await record.run(high, "a", most=1) == [False]
    await record.pool.execute("DELETE FROM executor.limit_holders")
    assert [ref.task_id for ref in (await record.admit()).ready] == [high]
    await record.pool.execute("DELETE FROM executor.limit_holders")
    # The first in line keeps the others waiting.
    assert [ref.step_id for ref in (await record.admit()).ready] == ["b", "c"]


async def test_a_paused_queue_keeps_no_places_from_other_queues(record):
    paused, other = await record.task("a", "b", queue="gpu"), await record.task("a", "b")
    session_id = await record.session()
    (running,) = await record.claim(session_id, other, "a")
    await record.acquire(session_id, [running], most=1)
    assert await record.run(paused, "a", most=1) == [False]
    assert await record.run(paused, "b", most=1) == [False]
    assert await record.run(other, "b", most=1) == [False]
    await record.settle(session_id, [running])
    assert [ref.task_id for ref in (await record.admit()).ready] == [paused]

    # One that has its place, and whose message came too late, does not keep it.
    await record.pool.execute(
        "INSERT INTO executor.queues (queue, paused, paused_at) VALUES ('gpu', true, now())"
    )
    await record.pool.execute("UPDATE executor.steps SET ready_at = now() - interval '1 minute'")
    assert (await record.limits.tidy()).released == [("t", "k")]
    # And one that waits for its turn is passed over.
    assert [(ref.task_id, ref.step_id) for ref in (await record.admit()).ready] == [(other, "b")]
    assert await record.holders() == {(other, "b")}

    await record.pool.execute("UPDATE executor.queues SET paused = false, paused_at = NULL")
    assert not (await record.admit()).ready
    # It asks for its place anew.
    assert await record.run(paused, "a", most=1) == [False]
    await record.pool.execute("DELETE FROM executor.limit_holders")
    assert [(ref.task_id, ref.step_id) for ref in (await record.admit()).ready] == [(paused, "b")]


async def test_tenants_and_keys_have_limits_of_their_own(record):
    mine, yours = await record.task("a", "b"), await record.task("a", tenant="u")
    assert await record.run(mine, "a", most=1) == [True]
    assert await record.run(mine, "b", key="other", most=1) == [True]
    assert await record.run(yours, "a", most=1) == [True]


async def test_the_step_of_a_lost_worker_keeps_its_place(record):
    task_id = await record.task("a", "b")
    old, new = await record.session(), await record.session()
    (stale,) = await record.claim(old, task_id, "a")
    assert (await record.acquire(old, [stale], most=1))[0] == [True]
    assert [ref.attempt for ref in (await record.lose(old)).ready] == [2]
    assert await record.run(task_id, "b", most=1) == [False]
    # The old worker was only stopped. What it says is refused, and frees nothing.
    accepted, effects = await record.settle(old, [stale])
    assert accepted == [False]
    assert not effects.released
    assert await record.holders() == {(task_id, "a")}
    (fresh,) = await record.claim(new, task_id, "a", attempt=2)
    assert (await record.acquire(new, [fresh], most=1))[0] == [True]
    accepted, effects = await record.settle(old, [stale])
    assert (accepted, effects.released) == ([False], [])
    assert not (await record.admit()).ready
    accepted, effects = await record.settle(new, [fresh])
    assert (accepted, effects.released) == ([True], [("t", "k")])
    assert [ref.step_id for ref in (await record.admit()).ready] == ["b"]


async def test_an_attempt_that_is_no_longer_the_sessions_gets_nothing(record):
    task_id = await record.task("a")
    old = await record.session()
    attempts = await record.claim(old, task_id, "a")
    await record.lose(old)
    granted, effects = await record.acquire(old, attempts, most=1)
    assert granted == [False]
    assert not effects.events
    assert await record.holders() == set()
    assert await record.state(task_id, "a") == ("READY", 0)


async def test_starts_come_at_once_as_far_as_the_burst_goes_then_at_the_rate(record):
    names = [f"s{number:02}" for number in range(30)]
    task_id = await record.task(*names)
    granted = await record.run(task_id, *names, starts=10, period=timedelta(seconds=1))
    assert granted == [True] * 10 + [False] * 20
    rows = await record.pool.fetch(
        "SELECT step_id, due_at FROM executor.steps WHERE waits_for = 'limit:k' ORDER BY step_id"
    )
    dues = [row["due_at"] for row in rows]
    promised = [due for due in dues if due is not None]
    # As many as a second holds are promised their start; the others wait for a promise.
    assert 10 <= len(promised) <= 11
    gaps = {
        round((later - sooner).total_seconds(), 3) for sooner, later in itertools.pairwise(promised)
    }
    assert gaps == {0.1}
    assert await record.waiters() == 20 - len(promised)
    assert await record.limits.next_due() is not None
    # Those who come now wait behind them.
    late = await record.task("late")
    assert await record.run(late, "late", starts=10) == [False]
    assert (await record.step(late, "late"))["due_at"] is None


async def test_a_promised_start_runs_straight_when_it_is_due(record):
    task_id = await record.task("a", "b")
    assert await record.run(task_id, "a", "b", starts=1, period=timedelta(milliseconds=50)) == [
        True,
        False,
    ]
    assert await record.holders() == {(task_id, "a"), (task_id, "b")}
    await record.pool.execute("UPDATE executor.steps SET due_at = now() WHERE step_id = 'b'")
    await record.pool.execute("SELECT executor.wake_due_v1($1, 10)", REPUBLISH)
    assert await record.state(task_id, "b") == ("READY", 1)
    (attempt,) = await record.claim(await record.session(), task_id, "b")
    assert attempt.phase == 1


async def test_a_start_that_comes_late_is_asked_for_anew(record):
    task_id = await record.task("a")
    assert await record.run(task_id, "a", starts=5) == [True]
    await record.pool.execute(
        "UPDATE executor.steps SET state = 'READY', session_id = NULL,"
        " ready_at = now() - interval '2 s'"
    )
    session_id = await record.session()
    attempts = await record.claim(session_id, task_id, "a")
    assert [attempt.phase for attempt in attempts] == [0]
    assert (await record.acquire(session_id, attempts, starts=5))[0] == [True]
    assert await record.holders() == {(task_id, "a")}


async def test_what_was_lost_counts_towards_the_rate_when_it_starts_again(record):
    names = ["a", "b", "c"]
    task_id = await record.task(*names)
    old, new = await record.session(), await record.session()
    attempts = await record.claim(old, task_id, *names)
    assert (await record.acquire(old, attempts, starts=3, period=LONG))[0] == [True] * 3
    await record.lose(old)
    attempts = await record.claim(new, task_id, *names, attempt=2)
    assert (await record.acquire(new, attempts, starts=3, period=LONG))[0] == [False] * 3
    # They have their places still, and each its time.
    assert await record.waiters() == 0
    assert len(await record.holders()) == 3
    rows = await record.pool.fetch("SELECT due_at FROM executor.steps")
    assert len({row["due_at"] for row in rows} - {None}) == 3


async def test_promises_go_on_by_the_clock(record):
    task_id = await record.task("a", "b", "c")
    assert await record.run(task_id, "a", "b", "c", starts=1, period=LONG) == [True, False, False]
    assert await record.waiters() == 2
    assert await record.limits.due() == []
    assert not (await record.admit()).ready
    await record.pool.execute(
        "UPDATE executor.limits SET next_start = next_start - interval '1 day',"
        " due_at = due_at - interval '1 day'"
    )
    assert await record.limits.due() == [("t", "k")]
    assert [ref.step_id for ref in (await record.admit()).ready] == ["b"]
    # The next one's turn is a day later.
    assert await record.limits.due() == []
    assert await record.limits.next_due() is not None
    assert (await record.state(task_id, "c"))[0] == "WAITING"


async def test_a_step_of_a_task_that_does_not_go_on_is_held_and_takes_no_place(record):
    failing = await record.task("bad", "waits", traits=2)
    other = await record.task("a")
    session_id = await record.session()
    (bad,) = await record.claim(session_id, failing, "bad")
    assert (await record.acquire(session_id, [bad], most=1))[0] == [True]
    assert await record.run(failing, "waits", most=1) == [False]
    assert await record.run(other, "a", most=1) == [False]
    _, effects = await record.settle(session_id, [bad], StepState.FAILED)
    assert effects.released == [("t", "k")]
    effects = await record.admit()
    assert effects.released == [("t", "k")]
    assert await record.state(failing, "waits") == ("BLOCKED", 1)
    assert [ref.task_id for ref in (await record.admit()).ready] == [other]
    # When its task is continued it asks again.
    await record.pool.execute(
        "SELECT executor.retry_task_v1($1, $2, NULL, NULL, NULL, NULL)", REPUBLISH, failing
    )
    assert await record.state(failing, "waits") == ("READY", 0)


async def test_what_waits_in_a_task_that_ends_is_forgotten(record):
    task_id, other = await record.task("a", "b"), await record.task("a")
    assert await record.run(task_id, "a", "b", most=1) == [True, False]
    assert await record.run(other, "a", most=1) == [False]
    facts = await record.pool.fetch("SELECT * FROM executor.cancel_task_v1($1)", task_id)
    assert [fact["key"] for fact in facts if fact["kind"] == "RELEASED"] == ["k"]
    assert [ref.task_id for ref in (await record.admit()).ready] == [other]
    assert await record.waiters() == 0


async def test_a_waiter_that_does_not_wait_any_more_gets_no_place(record):
    task_id = await record.task("a", "b", "c")
    assert await record.run(task_id, "a", "b", "c", most=1) == [True, False, False]
    # As an early join leaves it.
    await record.pool.execute(
        "UPDATE executor.steps SET state = 'CANCELLED', waits_for = NULL WHERE step_id = 'b'"
    )
    await record.pool.execute("DELETE FROM executor.limit_holders")
    effects = await record.admit()
    assert (effects.ready, effects.released) == ([], [("t", "k")])
    assert [ref.step_id for ref in (await record.admit()).ready] == ["c"]
    assert (await record.state(task_id, "b"))[0] == "CANCELLED"


async def test_places_that_were_left_behind_are_freed(record):
    task_id = await record.task("cancelled", "held", "ready", "running", "waits")
    session_id = await record.session()
    names = ["cancelled", "held", "ready", "running"]
    attempts = await record.claim(session_id, task_id, *names)
    assert all((await record.acquire(session_id, attempts, most=4))[0])
    assert await record.run(task_id, "waits", most=4) == [False]
    assert not (await record.limits.tidy()).released
    for name, state in (("cancelled", "CANCELLED"), ("held", "BLOCKED"), ("ready", "READY")):
        await record.pool.execute(
            "UPDATE executor.steps SET state = $2, session_id = NULL WHERE step_id = $1",
            name,
            state,
        )
    assert (await record.limits.tidy()).released == [("t", "k")]
    assert await record.holders() == {(task_id, "ready"), (task_id, "running")}
    assert [ref.step_id for ref in (await record.admit()).ready] == ["waits"]


async def test_limits_that_nobody_uses_are_forgotten(record):
    task_id = await record.task("a", "b")
    session_id = await record.session()
    attempts = await record.claim(session_id, task_id, "a", "b")
    await record.acquire(session_id, attempts[:1], "used", most=1)
    await record.acquire(session_id, attempts[1:], "rated", starts=1, period=LONG)
    await record.settle(session_id, attempts[1:])
    await record.pool.execute("INSERT INTO executor.limits (tenant_id, key) VALUES ('t', 'idle')")
    await record.limits.tidy()
    rows = await record.pool.fetch("SELECT key FROM executor.limits")
    assert {row["key"] for row in rows} == {"used", "rated"}


async def test_limits_with_waiters_are_listed_in_order(record):
    task_id = await record.task("a", "b", "c", "d")
    for key, name in (("x", "a"), ("y", "b")):
        assert await record.run(task_id, name, key=key, most=1) == [True]
    for key, name in (("x", "c"), ("y", "d")):
        assert await record.run(task_id, name, key=key, most=1) == [False]
    assert await record.limits.waiting(("", "")) == [("t", "x"), ("t", "y")]
    assert await record.limits.waiting(("t", "x")) == [("t", "y")]
    assert await record.limits.waiting(("t", "y")) == []


async def test_many_at_once_never_exceed_a_limit_and_never_deadlock(record):
    """Workers that take, settle and lose attempts of the same keys, all together."""
    keys, most = ["x", "y", "z"], 2
    tasks = [await record.task(*"abcdef") for _ in range(12)]
    exceeded = []

    async def look():
        rows = await record.pool.fetch(
            "SELECT h.key, count(*) AS n FROM executor.limit_holders h GROUP BY h.key"
        )
        exceeded.extend(row for row in rows if row["n"] > most)

    async def work(seed):
        own = random.Random(seed)
        session_id = await record.session()
        for _ in range(25):
            chosen = own.sample(tasks, 4)
            attempts = [
                attempt
                for task_id in chosen
                for number in (1, 2, 3)
                for attempt in await record.claim(
                    session_id, task_id, *own.sample("abcdef", 3), attempt=number
                )
            ]
            wants = [
                Want(each, keys[ord(each.step_id) % 3], most, 0, timedelta(seconds=1))
                for each in attempts
            ]
            own.shuffle(wants)
            granted, effects = await record.limits.acquire(session_id, wants)
            await look()
            mine = [want.attempt for want, given in zip(wants, granted, strict=True) if given]
            released = set(effects.released)
            if own.random() < 0.2:
                await record.lose(session_id)
                session_id = await record.session()
            else:
                released |= set((await record.settle(session_id, mine))[1].released)
            while released:
                released = set((await record.limits.admit(sorted(released))).released)
            await look()
            released = set((await record.limits.tidy()).released)

    async with asyncio.timeout(100):
        await asyncio.gather(*(work(seed) for seed in range(6)))
    assert exceeded == []
    deadlocks = await record.pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
    done = await record.pool.fetchval(
        "SELECT count(*) FROM executor.steps WHERE state = 'SUCCEEDED'"
    )
    assert done > 20
    rows = await record.pool.fetch(
        "SELECT t.last_cursor, 1 + coalesce(sum(json_array_length(e.events::json)), 0) AS counted"
        " FROM executor.tasks t LEFT JOIN executor.task_events e USING (task_id)"
        " GROUP BY t.task_id, t.last_cursor"
    )
    assert all(row["last_cursor"] == row["counted"] for row in rows)
