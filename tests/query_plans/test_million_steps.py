"""What claiming, settling and sweeping read does not grow with what the record holds.

A million steps that are over lie in 35 partitions; each statement may touch rows in
proportion to what it finds, and may read no partition from end to end.
"""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from executor_svc.engine.records import StepAddress, StepRef, TaskRecord, TaskState
from executor_svc.graphs.cache import ACCEPTED
from executor_svc.graphs.compile import compile_graph
from executor_svc.store import PostgresTaskStore, open_record
from executor_svc.store.sweep import PostgresSweepStore
from executor_svc.tasks.creator import Submission, new_task
from executor_svc.tasks.filters import TaskFilter
from executor_svc.tasks.task_ids import first_id_at
from stepwire.db import migrate
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.executor_mesh import chain
from tests.integration.executor_svc.limit_record import OUTPUT, REPUBLISH, LimitRecord

PARTITIONS = 35
NOBODY = UUID(int=0)
TASKS, STEPS_EACH = 200_000, 5
FOUND = 100
# Rows that may be touched for each step found, and for each partition.
ROWS_PER_STEP, ROWS_PER_PARTITION = 20, 5
READ = """
    SELECT coalesce(sum(seq_tup_read), 0) AS scanned, coalesce(sum(idx_tup_fetch), 0) AS fetched
    FROM pg_stat_xact_user_tables
    WHERE schemaname = 'executor' AND relname ~ '^(tasks|steps|task_events|payloads)_'
"""
# Ids spread evenly over the partitions' days: those of 2026-01-01 and behind.
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
IDS = f"""
    SELECT (lpad(to_hex($1::bigint + i * {PARTITIONS} * 86400000 / {TASKS}), 12, '0')
        || '70008' || lpad(to_hex(i), 15, '0'))::uuid AS task_id
    FROM generate_series(0, {TASKS - 1}::bigint) AS i
"""
FILL = (
    f"CREATE TEMP TABLE made AS {IDS}",
    """
    INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, state, open_sinks, input,
        input_type, traceparent, ended_at)
    SELECT task_id, 't', 'g', 'SUCCEEDED', 0, '1', 'j', '', now() FROM made
    """,
    f"""
    INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue, priority,
        ready_at, ended_at)
    SELECT task_id, 's' || n, n, 'SUCCEEDED', 't', 'default', 5, now(), now()
    FROM made, generate_series(1, {STEPS_EACH}) AS n
    """,
    "DROP TABLE made",
)
# What is alive: a step in each of some tasks of all partitions.
ALIVE = """
    WITH chosen AS (
        SELECT task_id FROM executor.tasks TABLESAMPLE SYSTEM (5) REPEATABLE (1) LIMIT $1
    ), tasks AS (
        UPDATE executor.tasks t SET state = 'RUNNING', open_sinks = 5, ended_at = NULL
        FROM chosen c WHERE t.task_id = c.task_id
    )
    UPDATE executor.steps s
    SET state = $2::text::executor.step_state, due_at = $3, ended_at = NULL,
        waits_for = CASE WHEN $2 = 'WAITING' THEN 'retry' END, step_id = 'a'
    FROM chosen c WHERE s.task_id = c.task_id AND s.step_id = 's1' AND s.state = 'SUCCEEDED'
"""


@pytest.fixture(scope="module")
async def full(postgres: PostgresServer):
    with fresh_database(postgres) as url:
        async with open_record(url, application_name="test", max_size=2) as pool:
            await migrate(pool, package="executor_svc", schema="executor")
            for day in range(PARTITIONS):
                lower = FIRST + day * DAY
                assert await pool.fetchval(
                    "SELECT executor.add_partition_v1($1, $2, $3)",
                    f"day_{day}",
                    first_id_at(lower),
                    first_id_at(lower + DAY),
                )
            async with pool.acquire() as connection:
                # Its plans are made while the tables are empty, and are kept.
                await read_one(OneConnection(connection), NOBODY)
                first, *others = FILL
                milliseconds = int(FIRST.timestamp() * 1000)
                await connection.execute(first.replace("$1", str(milliseconds)))
                for statement in others:
                    await connection.execute(statement)
            yield pool


class OneConnection:
    """A connection that passes for a pool, so that a store works in its transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @asynccontextmanager
    async def acquire(self):
        yield self._connection


async def read_one(connection: OneConnection, task_id: UUID) -> TaskRecord | None:
    """Look at a task in all the ways its owner may."""
    store = PostgresTaskStore(connection, republish_after=REPUBLISH, inline_bytes=1)
    found = await store.get_with_outputs(task_id, ["s1", "s2"], tenant_id="t")
    await store.outputs([StepAddress(task_id, "s1"), StepAddress(task_id, "s2")])
    await store.steps(task_id, outputs=True)
    if found is None:
        return None
    task, _ = found
    await store.events(task, after=0, limit=10)
    return task


class Reading:
    """What a transaction has read of the large tables."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = OneConnection(connection)
        self.record = LimitRecord(self.connection)
        self._before = (0, 0)

    async def begin(self) -> None:
        """Count from here on."""
        self._before = await self._read()

    async def alive(self, state: str, *, due_in: timedelta | None) -> list[StepRef]:
        """Bring steps of tasks to life; what that reads does not count."""
        due_at = None if due_in is None else datetime.now(UTC) + due_in
        await self.connection.execute(ALIVE, FOUND, state, due_at)
        rows = await self.connection.fetch(
            "SELECT task_id FROM executor.steps WHERE step_id = 'a' AND state <> 'SUCCEEDED'"
        )
        await self.begin()
        return [StepRef(row["task_id"], "a", 1, "default") for row in rows]

    async def check(self, found: int) -> None:
        """Bound what was read since the last look by what was found."""
        before, self._before = self._before, await self._read()
        scanned, fetched = (now - then for now, then in zip(self._before, before, strict=True))
        assert scanned == 0
        assert fetched <= ROWS_PER_STEP * found + ROWS_PER_PARTITION * PARTITIONS

    async def _read(self) -> tuple[int, int]:
        row = await self.connection.fetchrow(READ)
        assert row is not None
        return int(row["scanned"]), int(row["fetched"])


@asynccontextmanager
async def reading(pool: asyncpg.Pool):
    """A transaction that is undone, so that each test begins with the same rows."""
    async with pool.acquire() as connection:
        undone = connection.transaction()
        await undone.start()
        try:
            opened = Reading(connection)
            await opened.begin()
            yield opened
        finally:
            await undone.rollback()


@pytest.fixture
async def look(full):
    async with reading(full) as opened:
        yield opened


async def test_reading_a_task(look):
    task_id = await look.connection.fetchval(
        "SELECT task_id FROM executor.tasks ORDER BY task_id DESC LIMIT 1"
    )
    await look.begin()
    assert await read_one(look.connection, task_id) is not None
    await look.check(STEPS_EACH)


async def test_claiming_and_settling(look):
    refs = await look.alive("READY", due_in=timedelta(0))
    session_id = await look.record.session()
    attempts = await look.record.steps.claim(session_id, refs)
    assert len(attempts) == FOUND
    await look.check(FOUND)
    accepted, _ = await look.record.settle(session_id, attempts)
    assert len(accepted) == FOUND
    await look.check(FOUND)


@pytest.mark.parametrize(
    ("step_state", "due_in", "state"),
    [
        ("READY", timedelta(0), TaskState.RUNNING),
        ("READY", None, TaskState.RUNNING),
        ("WAITING", timedelta(0), TaskState.WAITING),
        ("WAITING", None, TaskState.WAITING),
    ],
)
async def test_listing_the_tasks_that_go_on(look, step_state, due_in, state):
    await look.alive(step_state, due_in=due_in)
    store = PostgresTaskStore(look.connection, republish_after=REPUBLISH, inline_bytes=1)
    every = TaskFilter().ids
    for select in (store.list, store.find_ids):
        assert len(await select(TaskFilter(state=state), every, tenant_id="t", limit=200)) == FOUND
        await look.check(FOUND)
        other = TaskState.WAITING if state is TaskState.RUNNING else TaskState.RUNNING
        assert not await select(TaskFilter(state=other), every, tenant_id="t", limit=200)
        await look.check(0)


async def test_listing_the_tasks_of_a_workflow_that_is_rare(look):
    await look.connection.execute(
        "UPDATE executor.tasks SET workflow = 'rare', workflow_version = '1' WHERE task_id IN"
        " (SELECT task_id FROM executor.tasks TABLESAMPLE SYSTEM (5) REPEATABLE (1) LIMIT $1)",
        FOUND,
    )
    await look.begin()
    store = PostgresTaskStore(look.connection, republish_after=REPUBLISH, inline_bytes=1)
    every = TaskFilter().ids
    # More often than it takes to have a plan that serves any workflow.
    for state in (None, *[TaskState.SUCCEEDED] * 8):
        for select in (store.list, store.find_ids):
            wanted = TaskFilter(state=state, workflow="rare")
            assert len(await select(wanted, every, tenant_id="t", limit=200)) == FOUND
            await look.check(FOUND)
    for wanted in (
        TaskFilter(workflow="other"),
        TaskFilter(workflow="rare", workflow_version="2", state=TaskState.SUCCEEDED),
    ):
        assert not await store.list(wanted, every, tenant_id="t", limit=200)
        await look.check(FOUND)


async def test_making_subtasks_and_cancelling_them_with_their_parents(look):
    refs = await look.alive("READY", due_in=timedelta(0))
    await look.record.steps.claim(await look.record.session(), refs)
    await look.begin()
    compiled = compile_graph(chain(1), limits=ACCEPTED)
    subtasks = [new_task(Submission("t", compiled, OUTPUT, parent=ref)) for ref in refs]
    store = PostgresTaskStore(look.connection, republish_after=REPUBLISH, inline_bytes=1024)
    assert await store.create(subtasks)
    await look.check(FOUND)
    abandoned = "SELECT kind FROM executor.abandon_v1($1)"
    kinds = await look.connection.fetch(abandoned, [ref.task_id for ref in refs])
    assert len(kinds) == 1
    await look.check(FOUND)
    assert await look.connection.fetchval("SELECT count(*) FROM executor.notices") == FOUND
    effects = await store.cancel(refs[0].task_id)
    assert effects is not None
    assert effects.notices
    await look.check(STEPS_EACH)


async def test_releasing(look):
    await look.alive("READY", due_in=None)
    assert len(await look.record.releases.release("default", room=FOUND)) == FOUND
    await look.check(FOUND)


async def test_due_timers(look):
    await look.alive("WAITING", due_in=-timedelta(seconds=1))
    sweep = PostgresSweepStore(look.connection, republish_after=REPUBLISH)
    assert await sweep.next_due() is not None
    await look.check(1)
    assert len((await sweep.wake_due()).ready) == FOUND
    await look.check(FOUND)


async def test_what_no_worker_came_for(look):
    await look.alive("READY", due_in=timedelta(hours=1))
    await look.connection.execute(
        "UPDATE executor.steps SET expires_at = now() - interval '1 s' WHERE state = 'READY'"
    )
    await look.begin()
    sweep = PostgresSweepStore(look.connection, republish_after=REPUBLISH)
    assert len(await sweep.expired([])) == FOUND
    assert await sweep.next_due() is None
    await look.check(FOUND)


async def test_sending_again(look):
    await look.alive("READY", due_in=-timedelta(seconds=1))
    assert await look.record.releases.overdue_queues(["default"]) == ["default"]
    await look.check(FOUND)
    sweep = PostgresSweepStore(look.connection, republish_after=REPUBLISH)
    assert len((await sweep.republish({"default": timedelta(0)})).ready) == FOUND
    await look.check(FOUND)


async def test_sweeps_that_find_nothing(look):
    sweep = PostgresSweepStore(look.connection, republish_after=REPUBLISH)
    for find in (sweep.wake_due, sweep.expire_tasks, sweep.lose_orphans):
        assert not (await find()).ready
    assert not await sweep.expired([])
    assert await sweep.next_due() is None
    await look.check(0)
