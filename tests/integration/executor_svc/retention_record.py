"""A record with tasks of the past, for tests of retention."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from executor_svc.retention.loop import Retention
from executor_svc.retention.spans import Partition
from executor_svc.retention.store import PostgresRetentionStore
from executor_svc.tasks.task_ids import first_id_at
from stepwire.ids import uuid7

HOUR = timedelta(hours=1)
KEEP = timedelta(days=30)
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
TABLES = ("tasks", "steps", "task_events", "payloads")


def retention(pool: asyncpg.Pool, *, keep: timedelta = KEEP) -> Retention:
    return Retention(
        PostgresRetentionStore(pool), span=HOUR, keep=keep, every_seconds=60, clock=lambda: NOW
    )


def id_at(moment: datetime) -> UUID:
    """An id as it would have been made then."""
    random = uuid7().int & (2**62 - 1)
    return UUID(int=first_id_at(moment).int | 0x2 << 62 | random)


async def add_past(pool: asyncpg.Pool, moment: datetime) -> Partition:
    """A partition of the hour that begins at a time."""
    partition = Partition(
        moment.strftime("%Y%m%d_%H%M%S"), first_id_at(moment), first_id_at(moment + HOUR)
    )
    assert await pool.fetchval(
        "SELECT executor.add_partition_v1($1, $2, $3)",
        partition.name,
        partition.lower,
        partition.upper,
    )
    return partition


async def add_task(
    pool: asyncpg.Pool,
    moment: datetime,
    *,
    state: str = "SUCCEEDED",
    ended: datetime | None = None,
    parent: UUID | None = None,
) -> UUID:
    """A task made at a time, with a step, an event, a payload, a request id and a signal.

    One that has ended did so a minute later, if nothing else is said.
    """
    task_id = id_at(moment)
    final = state in ("SUCCEEDED", "FAILED", "CANCELLED")
    await pool.execute(
        "INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, state, mark, last_cursor,"
        " open_sinks, input, input_type, traceparent, ended_at, parent_task_id, parent_step_id)"
        " VALUES ($1, 't', 'g', $2::executor.task_state, CASE WHEN $2::executor.task_state IN"
        " ('PAUSED', 'FAILED', 'CANCELLED') THEN $2::executor.task_state END, 2, 0, '1', 'j', '',"
        " $3, $4, CASE WHEN $4::uuid IS NOT NULL THEN 's' END)",
        task_id,
        state,
        (ended or moment + timedelta(minutes=1)) if final else None,
        parent,
    )
    await pool.execute(
        "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue, priority)"
        " VALUES ($1, 'a', 0, 'SUCCEEDED', 't', 'default', 5)",
        task_id,
    )
    for statement in (
        "INSERT INTO executor.task_events (task_id, last_cursor, events) VALUES ($1, 2, '[]')",
        "INSERT INTO executor.payloads VALUES ($1, 'a', 1, 'large')",
        "INSERT INTO executor.requests VALUES ('t', $1::uuid::text, $1, 'd')",
        "INSERT INTO executor.signals (task_id, name, payload) VALUES ($1, 'n', 'p')",
        "INSERT INTO executor.limit_waiters VALUES ('t', 'k', 5, DEFAULT, $1, 'a', 1, 1)",
    ):
        await pool.execute(statement, task_id)
    return task_id


async def in_record(pool: asyncpg.Pool) -> set[UUID]:
    """The tasks that are there, after a look that they are there with all of their rows."""
    found = [
        {row["task_id"] for row in await pool.fetch(f"SELECT task_id FROM executor.{table}")}
        for table in (*TABLES, "requests", "signals", "limit_waiters")
    ]
    assert all(each == found[0] for each in found), found
    return found[0]


async def partition_names(pool: asyncpg.Pool, table: str = "tasks") -> list[str]:
    rows = await pool.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ('executor.' || $1)::regclass AND c.relname <> $1 || '_default'"
        " ORDER BY 1",
        table,
    )
    return [row["relname"].removeprefix(f"{table}_") for row in rows]
