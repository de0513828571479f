"""What the record says of queues, workers and failed steps."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from executor_svc.engine.ports import WorkerProfile
from executor_svc.queues import store as queue_store
from executor_svc.queues.records import FailedFilter, Traffic
from executor_svc.queues.store import PostgresQueueStore, queries
from executor_svc.store import PostgresSessionStore
from stepwire.db import migrate, open_pool
from stepwire.ids import uuid7
from stepwire.testing.poll import eventually

TENANT = "t"
LEASE = timedelta(seconds=60)
HOUR = timedelta(hours=1)
# Of the whole module: how long it waited for its turn must not matter.
LONG_AGO = datetime.now(UTC) - 3 * HOUR
ANY = FailedFilter()
DONE = 50_000
READY = 20_000


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, application_name="test") as opened:
        await migrate(opened, package="executor_svc", schema="executor")
        yield opened


@pytest.fixture
def store(pool):
    return PostgresQueueStore(pool)


async def add_task(pool, state="RUNNING", *, tenant=TENANT, workflow=None):
    task_id = uuid7()
    await pool.execute(
        "INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, state, open_sinks,"
        " input_type, traceparent, workflow, ended_at)"
        " VALUES ($1, $2, '', $3, 1, '', '', $4, $5)",
        task_id,
        tenant,
        state,
        workflow,
        None if state == "RUNNING" else datetime.now(UTC),
    )
    return task_id


async def add_step(pool, task_id, state, *, step_id="s", queue="q", tenant=TENANT, **columns):
    fields = {
        "task_id": task_id,
        "step_id": step_id,
        "ordinal": 0,
        "state": state,
        "tenant_id": tenant,
        "queue": queue,
        "priority": 5,
        **columns,
    }
    values = ", ".join(f"${place}" for place in range(1, len(fields) + 1))
    await pool.execute(
        f"INSERT INTO executor.steps ({', '.join(fields)}) VALUES ({values})", *fields.values()
    )


async def add_failed(pool, reason, *, ended_at=None, state="FAILED", workflow=None, **columns):
    tenant = columns.get("tenant", TENANT)
    task_id = await add_task(pool, state, tenant=tenant, workflow=workflow)
    await add_step(
        pool,
        task_id,
        "FAILED",
        ended_at=ended_at or datetime.now(UTC),
        failure=json.dumps({"reason": reason, "message": "m"}),
        **columns,
    )
    return task_id


async def test_steps_are_counted_by_queue_and_state(pool, store):
    now = datetime.now(UTC)
    task_id = await add_task(pool)

    async def add(name, state, **columns):
        await add_step(pool, task_id, state, step_id=name, **columns)

    await add("published", "READY", due_at=now, ready_at=now - timedelta(seconds=5))
    await add("unpublished", "READY", ready_at=now - timedelta(seconds=9))
    await add("elsewhere", "READY", ready_at=now, queue="other")
    await add("running", "RUNNING", session_id=uuid.uuid4())
    await add("sleeping", "WAITING", due_at=now, waits_for="sleep")
    await add("gathering", "WAITING", waits_for="items")
    await add("done", "SUCCEEDED")
    seen = await store.snapshot()
    backlog = seen.backlogs["q"]
    assert (backlog.ready, backlog.running, backlog.waiting) == (2, 1, 1)
    assert backlog.oldest_ready_at == now - timedelta(seconds=9)
    assert (seen.backlogs["other"].ready, seen.backlogs["other"].running) == (1, 0)
    assert await store.running("q") == 1
    assert await store.running("other") == 0


async def test_counting_a_long_backlog_reads_indexes_alone(pool):
    """However many steps are done: with them, a scan of the table would be minutes."""
    task_id = await add_task(pool)
    await pool.execute(
        "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue, priority,"
        " due_at, ready_at, output)"
        " SELECT $1, 's' || n, 0,"
        "  (CASE WHEN n > $2::integer THEN 'READY' ELSE 'SUCCEEDED' END)::executor.step_state, 't',"
        "  (ARRAY['a', 'b', 'c'])[1 + n % 3], 5, CASE WHEN n % 2 = 0 THEN now() END, now(),"
        "  decode(repeat('00', 100), 'hex')"
        " FROM generate_series(1, $2::integer + $3::integer) AS n",
        task_id,
        DONE,
        READY,
    )
    await pool.execute("VACUUM (ANALYZE) executor.steps")
    rows = await pool.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {queries.count_backlogs}")
    nodes = list(nodes_of(json.loads(rows[0]["QUERY PLAN"])[0]["Plan"]))
    scans = [node for node in nodes if "Relation Name" in node]
    assert {node["Node Type"] for node in scans} == {"Index Only Scan"}, scans
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) == READY


def nodes_of(plan):
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes_of(inner)


async def test_counts_of_all_processes_add_up(store):
    one = Traffic(10, 8, 6, 1, 0.5, 3.0)
    for _ in range(3):
        await store.add_traffic({"q": one, "other": Traffic(arrived=1)})
    seen = (await store.snapshot()).traffic
    assert seen["q"].minute == seen["q"].hour == one + one + one
    assert timedelta(minutes=1) <= seen["q"].minute_span <= timedelta(seconds=70)
    assert seen["other"].minute.arrived == 3


async def test_processes_that_add_at_once_do_not_lock_each_other_out(store):
    queues = [f"q{number}" for number in range(20)]

    async def add(order):
        for _ in range(20):
            await store.add_traffic({queue: Traffic(arrived=1) for queue in order})

    await asyncio.gather(add(queues), add(queues[::-1]), add(queues))
    traffic = (await store.snapshot()).traffic
    assert [traffic[queue].minute.arrived for queue in queues] == [60] * 20


async def test_counts_leave_the_minute_then_the_hour_then_the_record(pool, store):
    await store.add_traffic({"q": Traffic(arrived=1)})
    await pool.execute("UPDATE executor.queue_stats SET bucket = bucket - interval '2 minutes'")
    await store.add_traffic({"q": Traffic(arrived=10)})
    seen = (await store.snapshot()).traffic["q"]
    assert (seen.minute.arrived, seen.hour.arrived) == (10, 11)
    await store.forget_traffic(timedelta(minutes=1))
    seen = (await store.snapshot()).traffic["q"]
    assert (seen.minute.arrived, seen.hour.arrived) == (10, 10)
    await pool.execute("UPDATE executor.queue_stats SET bucket = bucket - interval '2 hours'")
    assert (await store.snapshot()).traffic == {}


async def test_a_pause_keeps_its_time_and_takes_the_new_note(store):
    await store.pause("q", note="one")
    before = (await store.snapshot()).pauses["q"]
    await store.pause("q", note="two")
    after = (await store.snapshot()).pauses["q"]
    assert (before.note, after.note) == ("one", "two")
    assert before.since == after.since
    await store.pause("q", note="")
    assert (await store.snapshot()).pauses["q"] == after
    assert await store.resume("q") is True
    assert (await store.snapshot()).pauses == {}
    assert await store.resume("q") is False
    assert await store.resume("unknown") is False


async def test_what_is_being_claimed_runs_when_a_pause_is_over_with(pool, store):
    task_id, session_id = await add_task(pool), uuid7()
    await add_step(pool, task_id, "READY", due_at=datetime.now(UTC))
    await PostgresSessionStore(pool).open(
        session_id, WorkerProfile("w", ("q",), 1), lease=LEASE, busy=0, draining=False
    )
    async with pool.acquire() as connection:
        claim = connection.transaction()
        await claim.start()
        claimed = await connection.fetch(
            "SELECT * FROM executor.claim_v1($1, $2, $3, $4)", session_id, [task_id], ["s"], [1]
        )
        assert len(claimed) == 1
        pausing = asyncio.create_task(store.pause("q", note=""))

        async def is_recorded():
            return (await store.snapshot()).pauses

        await eventually(is_recorded)
        # The claim has not seen the pause, nor could this look see the claim.
        assert await store.running("q") == 0
        assert not pausing.done()
        await claim.commit()
    await pausing
    assert await store.running("q") == 1


async def test_a_resumed_queue_has_its_steps_published_anew(pool, store):
    task_id = await add_task(pool)
    now = datetime.now(UTC)
    await add_step(pool, task_id, "READY", due_at=now, publications=3)
    await add_step(pool, task_id, "READY", step_id="other", queue="other", due_at=now)
    await store.pause("q", note="")
    await store.resume("q")
    rows = await pool.fetch("SELECT step_id, due_at, publications FROM executor.steps")
    assert {row["step_id"]: (row["due_at"], row["publications"]) for row in rows} == {
        "s": (None, 0),
        "other": (now, 0),
    }


async def test_a_long_backlog_is_taken_back_before_its_queue_is_resumed(pool, store, monkeypatch):
    """Piece by piece, so that a call that is given up has not been for nothing."""
    monkeypatch.setattr(queue_store, "UNPUBLISH_BATCH", 2)
    task_id = await add_task(pool)
    for number in range(3):
        await add_step(pool, task_id, "READY", step_id=f"s{number}", due_at=datetime.now(UTC))
    await store.pause("q", note="")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM executor.queues FOR UPDATE")
        resuming = asyncio.create_task(store.resume("q"))

        async def is_taken_back():
            return await pool.fetchval("SELECT count(due_at) FROM executor.steps") == 0

        await eventually(is_taken_back)
        assert not resuming.done()
    assert await resuming is True


async def test_a_session_may_be_opened_again_when_the_answer_was_lost(pool, store):
    sessions, session_id = PostgresSessionStore(pool), uuid7()
    for lease in (-LEASE, LEASE):
        profile = WorkerProfile("w", ("a",), 20, "1.2.3")
        await sessions.open(session_id, profile, lease=lease, busy=0, draining=False)
    (worker,) = (await store.snapshot()).workers
    assert worker.session_id == session_id


async def test_workers_are_told_apart_by_session(pool, store):
    sessions = PostgresSessionStore(pool)
    alive, dead = uuid7(), uuid7()
    profile = WorkerProfile("w", ("a", "b"), 20, "1.2.3")
    await sessions.open(alive, profile, lease=LEASE, busy=2, draining=False)
    await sessions.open(dead, profile, lease=-LEASE, busy=0, draining=False)
    (worker,) = (await store.snapshot()).workers
    assert (worker.session_id, worker.name, worker.queues) == (alive, "w", ["a", "b"])
    assert (worker.slots, worker.busy, worker.version) == (20, 2, "1.2.3")
    assert worker.draining is False
    assert await store.drain_worker(dead) is None
    assert await store.drain_worker(uuid7()) is None
    drained = await store.drain_worker(alive)
    assert drained is not None
    assert drained.draining is True
    renewal = await sessions.renew(alive, lease=LEASE, busy=7)
    assert renewal is not None
    assert renewal.draining is True
    (worker,) = (await store.snapshot()).workers
    assert worker.busy == 7
    await sessions.close(alive)
    assert (await store.snapshot()).workers == []
    await pool.execute("DELETE FROM executor.worker_sessions")
    assert await sessions.renew(alive, lease=LEASE, busy=0) is None


@pytest.fixture
async def failures(pool):
    """Failed steps of all kinds, oldest first."""
    await add_failed(pool, "STEP_FAILED", tenant="another")
    return [
        await add_failed(pool, "STEP_FAILED", ended_at=LONG_AGO),
        await add_failed(pool, "STEP_TIMED_OUT", ended_at=LONG_AGO + HOUR, queue="llm"),
        await add_failed(pool, "STEP_FAILED", workflow="w"),
        await add_failed(pool, "STEP_FAILED", state="CANCELLED"),
    ]


@pytest.mark.parametrize(
    ("selected", "places"),
    [
        (ANY, [3, 2, 1, 0]),
        (FailedFilter(reason="STEP_FAILED"), [3, 2, 0]),
        (FailedFilter(queue="llm"), [1]),
        (FailedFilter(workflow="w"), [2]),
        (FailedFilter(failed_from=LONG_AGO + HOUR / 2), [3, 2, 1]),
        (FailedFilter(failed_before=LONG_AGO + 2 * HOUR), [1, 0]),
        (FailedFilter(reason="STEP_FAILED", queue="llm"), []),
    ],
)
async def test_failed_steps_are_selected(store, failures, selected, places):
    found = await store.failed_steps(TENANT, selected, before=None, limit=10)
    assert [failures.index(step.task_id) for step in found] == places
    counted = await store.count_failed(TENANT, selected, newest=10)
    assert sum(counted.values()) == len(places)
    tasks = await store.failed_tasks(TENANT, selected, after=None, limit=10)
    # Only FAILED tasks can be continued, and the oldest goes first.
    assert [failures.index(task_id) for task_id in tasks] == sorted({*places} - {3})


async def test_failed_steps_come_in_pages(pool, store, failures):
    await add_step(
        pool, failures[1], "FAILED", step_id="t", ended_at=datetime.now(UTC), failure=None
    )
    keys, last = [], None
    while page := await store.failed_steps(TENANT, ANY, before=last, limit=2):
        keys += [(failures.index(step.task_id), step.step_id) for step in page]
        last = page[-1].task_id, page[-1].step_id
    assert keys == [(3, "s"), (2, "s"), (1, "t"), (1, "s"), (0, "s")]
    pages, behind = [], None
    while tasks := await store.failed_tasks(TENANT, ANY, after=behind, limit=2):
        pages.append([failures.index(task_id) for task_id in tasks])
        behind = tasks[-1]
    assert pages == [[0, 1], [2]]


async def test_failed_steps_are_counted_by_reason(pool, store, failures):
    counted = await store.count_failed(TENANT, ANY, newest=10)
    assert list(counted.items()) == [("STEP_FAILED", 3), ("STEP_TIMED_OUT", 1)]
    assert await store.count_failed(TENANT, ANY, newest=1) == {"STEP_FAILED": 1}
    assert await store.failed_per_task([failures[0], uuid7()]) == {failures[0]: 1}


async def test_a_failed_step_is_told_whole(pool, store):
    task_id = await add_failed(pool, "STEP_FAILED", workflow="w", attempt=3)
    (step,) = await store.failed_steps(TENANT, ANY, before=None, limit=1)
    assert (step.task_id, step.step_id, step.queue, step.workflow) == (task_id, "s", "q", "w")
    assert (step.attempt, step.failure.reason, step.failure.message) == (3, "STEP_FAILED", "m")
    assert step.task_state == "FAILED"
