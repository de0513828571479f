"""The transitions of the record, called directly: what two workers do to each other."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from executor_svc.compile import GraphLimits, compile_graph
from executor_svc.creator import Submission, _new_task
from executor_svc.records import Blob, Failure, StepRef
from executor_svc.state_machine import Expanded, Failed, Succeeded, settle
from executor_svc.store import (
    PostgresSessionStore,
    PostgresStepStore,
    PostgresSweepStore,
    PostgresTaskStore,
)
from stepwire.db import migrate, open_pool
from stepwire.ids import uuid7
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import graph, transform

LIMITS = GraphLimits(max_steps=1000, max_bytes=2**20, queues=None)
REPUBLISH = timedelta(seconds=60)
LEASE = timedelta(seconds=60)
OUTPUT = Succeeded(Blob(b"1", "application/json"))
FAILURE = Failed(Failure("STEP_FAILED", "no"), retryable=False)


class Record:
    """The stores of one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.tasks = PostgresTaskStore(pool, republish_after=REPUBLISH)
        self.steps = PostgresStepStore(pool, republish_after=REPUBLISH, max_losses=2)
        self.sweep = PostgresSweepStore(pool, republish_after=REPUBLISH, max_losses=2)
        self.sessions = PostgresSessionStore(pool)

    async def session(self):
        session_id = uuid7()
        await self.sessions.open(session_id, worker="test", lease=LEASE)
        return session_id

    async def task(self, *steps, **fields):
        compiled = compile_graph(graph(*steps), limits=LIMITS)
        await self.tasks.add_graphs([compiled])
        task = _new_task(
            Submission("default", compiled, Blob(b"null", "application/json"), **fields)
        )
        assert await self.tasks.create([task])
        return compiled, task

    async def claim(self, session_id, task_id, *step_ids, attempt=1):
        refs = [StepRef(task_id, step_id, attempt, "default") for step_id in step_ids]
        attempts, _ = await self.steps.claim(session_id, refs)
        return attempts

    async def settle(self, session_id, compiled, attempts, outcome=OUTPUT, *, claims=0):
        settlements = [
            settle(
                compiled,
                attempt,
                outcome,
                now=datetime.now(UTC),
                rng=random.Random(1),
                claims=claims,
            )
            for attempt in attempts
        ]
        settled, effects = await self.steps.settle(session_id, settlements)
        return settled, effects

    async def states(self, task_id):
        rows = await self.pool.fetch(
            "SELECT step_id, state, attempt FROM executor.steps WHERE task_id = $1", task_id
        )
        return {row["step_id"]: (row["state"], row["attempt"]) for row in rows}

    async def task_state(self, task_id):
        return await self.pool.fetchval(
            "SELECT state FROM executor.tasks WHERE task_id = $1", task_id
        )

    async def expire(self, session_id):
        await self.sessions.close(session_id)
        return await self.sweep.expire_sessions()


@pytest.fixture
async def record(database_url):
    async with open_pool(database_url, application_name="test", max_size=10) as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        yield Record(pool)


async def test_a_step_is_claimed_once(record):
    _, task = await record.task(transform("a", "1"))
    sessions = [await record.session() for _ in range(8)]
    claims = await asyncio.gather(
        *(record.claim(session_id, task.task_id, "a") for session_id in sessions)
    )
    assert sum(attempt is not None for (attempt,) in claims) == 1


async def test_a_step_that_stands_twice_in_a_batch_is_claimed_once(record):
    _, task = await record.task(transform("a", "1"))
    first, second = await record.claim(await record.session(), task.task_id, "a", "a")
    assert first is not None
    assert second is None


async def test_a_result_is_recorded_once(record):
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    first, _ = await record.settle(session_id, compiled, attempts)
    second, effects = await record.settle(session_id, compiled, attempts, FAILURE)
    assert [first[0].accepted, second[0].accepted] == [True, False]
    assert not effects.events
    assert await record.task_state(task.task_id) == "SUCCEEDED"


async def test_the_result_of_a_lost_attempt_is_refused(record):
    compiled, task = await record.task(transform("a", "1"))
    old, new = await record.session(), await record.session()
    stale = await record.claim(old, task.task_id, "a")
    effects = await record.expire(old)
    assert [ref.attempt for ref in effects.ready] == [2]
    settled, _ = await record.settle(old, compiled, stale)
    assert not settled[0].accepted
    # Nor by someone else's session, nor while the next attempt runs.
    fresh = await record.claim(new, task.task_id, "a", attempt=2)
    assert fresh[0] is not None
    for session_id in (old, new):
        settled, _ = await record.settle(session_id, compiled, stale)
        assert not settled[0].accepted
    settled, _ = await record.settle(new, compiled, fresh)
    assert settled[0].accepted


async def test_a_session_that_is_gone_claims_nothing(record):
    _, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    await record.expire(session_id)
    assert await record.claim(session_id, task.task_id, "a") == [None]
    assert await record.states(task.task_id) == {"a": ("READY", 1)}


async def test_a_session_that_is_being_given_up_is_given_no_step(record):
    """A settlement that meets the sweep must not start a step which nobody would find."""
    compiled, task = await record.task(transform("a", "1"), transform("b", "1", depends_on=["a"]))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    async with record.pool.acquire() as sweep:
        transaction = sweep.transaction()
        await transaction.start()
        # The sweep as far as it knows which steps to take.
        await sweep.execute(
            "SELECT FROM executor.worker_sessions WHERE session_id = $1 FOR UPDATE", session_id
        )
        settling = asyncio.create_task(
            record.settle(session_id, compiled, attempts, claims=1)
        )
        await _until_waiting(record.pool, settling)
        await sweep.execute(
            "SELECT FROM executor.lose_steps_v1($1, $2, $3, interval '1 minute', 2)",
            [session_id],
            [task.task_id],
            ["a"],
        )
        await sweep.execute("DELETE FROM executor.worker_sessions")
        await transaction.commit()
    settled, _ = await settling
    assert not settled[0].accepted
    assert await record.states(task.task_id) == {"a": ("READY", 2)}


async def _until_waiting(pool, task):
    async def waits():
        return task.done() or await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    await eventually(waits, 30)
    assert not task.done()


async def test_the_continuation_belongs_to_the_same_session(record):
    compiled, task = await record.task(transform("a", "1"), transform("b", "1", depends_on=["a"]))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    settled, effects = await record.settle(session_id, compiled, attempts, claims=1)
    assert settled[0].continued.step_id == "b"
    assert effects.ready == []
    assert await record.states(task.task_id) == {"a": ("SUCCEEDED", 1), "b": ("RUNNING", 1)}
    effects = await record.expire(session_id)
    assert [(ref.step_id, ref.attempt) for ref in effects.ready] == [("b", 2)]


@pytest.mark.parametrize("claims", [1, 0])
async def test_a_join_fires_once_however_its_steps_end(record, claims):
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
    started = [s.continued for settled, _ in answers for s in settled if s.continued]
    ready = [ref for _, effects in answers for ref in effects.ready]
    assert (len(started), len(ready)) == ((1, 0) if claims else (0, 1))


async def test_a_join_whose_steps_end_in_one_batch_fires_once(record):
    names = ["a", "b", "c"]
    compiled, task = await record.task(
        *(transform(name, "1") for name in names), transform("join", "1", depends_on=names)
    )
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, *names)
    settled, _ = await record.settle(session_id, compiled, attempts, claims=1)
    assert [s.continued is not None for s in settled].count(True) == 1
    assert (await record.states(task.task_id))["join"] == ("RUNNING", 1)


async def test_what_is_ready_is_held_when_its_task_fails(record):
    compiled, task = await record.task(
        transform("bad", "1"),
        transform("ready", "1"),
        transform("running", "1"),
        transform("behind", "1", depends_on=["running"]),
    )
    session_id = await record.session()
    bad, running = await record.claim(session_id, task.task_id, "bad", "running")
    await record.settle(session_id, compiled, [bad], FAILURE)
    # A claim of the old attempt that is under way finds nothing.
    assert await record.claim(session_id, task.task_id, "ready") == [None]
    settled, effects = await record.settle(session_id, compiled, [running], claims=1)
    assert settled[0].accepted
    assert settled[0].continued is None
    assert effects.ready == []
    assert await record.states(task.task_id) == {
        "bad": ("FAILED", 1),
        "ready": ("BLOCKED", 2),
        "running": ("SUCCEEDED", 1),
        "behind": ("BLOCKED", 1),
    }
    again = await record.tasks.retry(task.task_id, request_id=None)
    assert {(ref.step_id, ref.attempt) for ref in again.ready} == {
        ("bad", 2),
        ("ready", 2),
        ("behind", 1),
    }


async def test_a_join_that_becomes_full_in_a_failed_task_is_held(record):
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
        settle(
            compiled,
            attempt,
            outcome,
            now=datetime.now(UTC),
            rng=random.Random(1),
            claims=1,
        )
        for attempt, outcome in ((a, OUTPUT), (b, OUTPUT), (bad, FAILURE))
    ]
    settled, effects = await record.steps.settle(session_id, settlements)
    assert all(each.accepted and each.continued is None for each in settled)
    assert effects.ready == []
    assert await record.task_state(task.task_id) == "FAILED"
    assert (await record.states(task.task_id))["join"] == ("BLOCKED", 1)
    again = await record.tasks.retry(task.task_id, request_id=None)
    assert {ref.step_id for ref in again.ready} == {"bad", "join"}


async def test_items_held_by_a_failure_come_back(record):
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
    again = await record.tasks.retry(task.task_id, request_id=None)
    assert {ref.step_id for ref in again.ready} == {"bad", "each[0]", "each[1]", "each[2]"}


async def test_a_retry_that_waits_is_held_by_a_failure(record):
    compiled, task = await record.task(transform("later", "1"), transform("bad", "1"))
    session_id = await record.session()
    later, bad = await record.claim(session_id, task.task_id, "later", "bad")
    await record.settle(session_id, compiled, [later], Failed(Failure("STEP_FAILED", "no")))
    assert (await record.states(task.task_id))["later"] == ("WAITING", 2)
    await record.settle(session_id, compiled, [bad], FAILURE)
    assert (await record.states(task.task_id))["later"] == ("BLOCKED", 2)
    assert await record.sweep.next_due() is None


async def test_a_retry_that_ends_in_a_failed_task_is_held(record):
    compiled, task = await record.task(transform("later", "1"), transform("bad", "1"))
    session_id = await record.session()
    later, bad = await record.claim(session_id, task.task_id, "later", "bad")
    await record.settle(session_id, compiled, [bad], FAILURE)
    await record.settle(session_id, compiled, [later], Failed(Failure("STEP_FAILED", "no")))
    assert (await record.states(task.task_id))["later"] == ("BLOCKED", 2)


async def test_a_step_lost_in_a_failed_task_is_held(record):
    compiled, task = await record.task(transform("lost", "1"), transform("bad", "1"))
    session_id, other = await record.session(), await record.session()
    await record.claim(other, task.task_id, "lost")
    (bad,) = await record.claim(session_id, task.task_id, "bad")
    await record.settle(session_id, compiled, [bad], FAILURE)
    effects = await record.expire(other)
    assert effects.ready == []
    assert (await record.states(task.task_id))["lost"] == ("BLOCKED", 2)


async def test_nothing_of_a_cancelled_task_is_recorded(record):
    compiled, task = await record.task(
        transform("a", "1"), transform("b", "1"), transform("c", "1", depends_on=["a"])
    )
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "a")
    assert await record.tasks.cancel(task.task_id) is not None
    settled, effects = await record.settle(session_id, compiled, attempts, claims=1)
    assert not settled[0].accepted
    assert not effects.events
    assert await record.claim(session_id, task.task_id, "b") == [None]
    assert await record.tasks.cancel(task.task_id) is None
    assert await record.tasks.retry(task.task_id, request_id=None) is None
    assert (await record.expire(session_id)).ready == []
    states = await record.states(task.task_id)
    assert set(states.values()) == {("CANCELLED", 1)}


async def test_two_retries_at_once_with_one_request_id_are_one(record):
    compiled, task = await record.task(transform("bad", "1"))
    session_id = await record.session()
    attempts = await record.claim(session_id, task.task_id, "bad")
    await record.settle(session_id, compiled, attempts, FAILURE)
    effects = await asyncio.gather(
        *(record.tasks.retry(task.task_id, request_id="r") for _ in range(5))
    )
    assert sum(each is not None for each in effects) == 1


async def test_steps_unknown_to_their_worker_are_given_back(record):
    _, task = await record.task(transform("known", "1"), transform("unknown", "1"))
    session_id = await record.session()
    await record.claim(session_id, task.task_id, "known", "unknown")
    known = [(task.task_id, "known")]
    young = await record.steps.give_back_unknown(session_id, known, older_than=LEASE)
    assert not young.ready
    effects = await record.steps.give_back_unknown(session_id, known, older_than=timedelta(0))
    assert [(ref.step_id, ref.attempt) for ref in effects.ready] == [("unknown", 2)]
    assert await record.states(task.task_id) == {"known": ("RUNNING", 1), "unknown": ("READY", 2)}


async def test_a_task_is_created_once_although_the_answer_was_lost(record):
    _, task = await record.task(transform("a", "1"))
    assert await record.tasks.create([task])
    assert await record.pool.fetchval("SELECT count(*) FROM executor.tasks") == 1
    assert await record.pool.fetchval("SELECT count(*) FROM executor.steps") == 1


async def test_tasks_are_created_together_or_not_at_all(record):
    compiled, task = await record.task(transform("a", "1"), request_id="r")
    null = Blob(b"null", "application/json")
    fresh = _new_task(Submission("default", compiled, null))
    raced = _new_task(Submission("default", compiled, null, request_id="r"))
    assert not await record.tasks.create([fresh, raced])
    assert await record.pool.fetchval("SELECT count(*) FROM executor.tasks") == 1
    (existing,) = (await record.tasks.find([fresh, raced])).values()
    assert existing.task_id == task.task_id


async def test_steps_that_stay_ready_are_published_again_and_ever_more_rarely(record):
    _, task = await record.task(transform("a", "1"))
    patient = {"default": timedelta(0), "gpu": timedelta(0)}
    assert (await record.sweep.republish(patient)).ready == []
    for _ in range(3):
        await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '1 s'")
        busy = {"default": timedelta(seconds=100), "gpu": timedelta(0)}
        assert (await record.sweep.republish(busy)).ready == []
        assert [r.step_id for r in (await record.sweep.republish(patient)).ready] == ["a"]
        assert (await record.sweep.republish(patient)).ready == []
    wait = await record.pool.fetchval("SELECT due_at - now() FROM executor.steps")
    assert timedelta(seconds=200) < wait <= timedelta(seconds=240)
    # A queue that is never empty does not strand a message that was lost.
    await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '101 s'")
    assert [r.step_id for r in (await record.sweep.republish(busy)).ready] == ["a"]
    assert await record.states(task.task_id) == {"a": ("READY", 1)}


async def test_sweeps_at_once_do_not_take_the_same_rows(record):
    for _ in range(20):
        await record.task(transform("a", "1"))
    await record.pool.execute("UPDATE executor.steps SET due_at = now() - interval '1 s'")
    found = await asyncio.gather(
        *(record.sweep.republish({"default": timedelta(0)}) for _ in range(5))
    )
    ids = [ref.task_id for effects in found for ref in effects.ready]
    assert len(ids) == len(set(ids)) == 20


async def test_cursors_have_no_gap_whatever_happens(record):
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
    await record.tasks.retry(task.task_id, request_id="r")
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


async def test_transitions_at_once_do_not_deadlock(record):
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

    async def work(seed):
        own = random.Random(seed)
        session_id = await record.session()
        for _ in range(15):
            refs = [
                StepRef(task_id, own.choice("abc"), own.randint(1, 4), "default")
                for task_id in own.sample(ids, 6)
            ]
            attempts, _ = await record.steps.claim(session_id, refs)
            settlements = [
                settle(
                    graphs[attempt.task.task_id],
                    attempt,
                    own.choice([OUTPUT, OUTPUT, FAILURE]),
                    now=datetime.now(UTC),
                    rng=own,
                    claims=0,
                )
                for attempt in attempts
                if attempt is not None and own.random() < 0.8
            ]
            own.shuffle(settlements)
            await record.steps.settle(session_id, settlements)
            await record.tasks.retry(own.choice(ids), request_id=None)
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
        "SELECT t.last_cursor, 1 + coalesce(sum(json_array_length(e.events)), 0) AS counted"
        " FROM executor.tasks t LEFT JOIN executor.task_events e USING (task_id)"
        " GROUP BY t.task_id"
    )
    assert all(row["last_cursor"] == row["counted"] for row in rows)
