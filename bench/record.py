"""What the record says of a benchmark's tasks: when they have ended, and whether well."""

import asyncio
from collections import Counter
from uuid import UUID

import asyncpg

from bench.stacks import Bench
from stepwire.api.executor.v1.task_pb2 import TaskEventType

LOOK_SECONDS = 0.01

# Ids sort by time: what a run has made is what lies behind its first id.
UNFINISHED = """
SELECT task_id FROM executor.tasks
WHERE task_id >= $1 AND ended_at IS NULL ORDER BY task_id LIMIT 1
"""
TASKS = """
SELECT count(*) AS tasks, count(*) FILTER (WHERE state = 'SUCCEEDED') AS succeeded
FROM executor.tasks WHERE task_id >= $1
"""
STEPS = """
SELECT count(*) AS steps,
    count(*) FILTER (WHERE state = 'SUCCEEDED') AS succeeded,
    count(*) FILTER (WHERE attempt = 1) AS at_once
FROM executor.steps WHERE task_id >= $1
"""
REPEATED = """
SELECT count(*) FROM (
    SELECT 1 FROM executor.task_events e, jsonb_array_elements(e.events::jsonb) AS event
    WHERE e.task_id >= $1 AND (event ->> 0)::int = $2
    GROUP BY e.task_id, event ->> 1 HAVING count(*) > 1
) AS more_than_once
"""


async def settled(bench: Bench, first: UUID) -> None:
    """Wait until every task from `first` on has ended.

    Each look begins at the oldest task that had not ended, so that all looks together read
    every task about once: looking must not weigh in what is measured.
    """
    unfinished = await bench.record.prepare(UNFINISHED)
    oldest: UUID | None = first
    while (oldest := await unfinished.fetchval(oldest)) is not None:
        await asyncio.sleep(LOOK_SECONDS)


class Verdict:
    """What went wrong over all runs: 0 `lost` and 0 `repeated` is what is promised."""

    def __init__(self) -> None:
        self.found = Counter(lost=0, repeated=0)

    async def add(
        self, bench: Bench, first: UUID, *, tasks: int, steps: int, kills: bool = False
    ) -> None:
        """Look at the tasks from `first` on.

        Where no worker was killed, each step must have succeeded at its first attempt.

        Raises:
            AssertionError: the run's answers are wrong, and so is its figure.
        """
        found = await one_row(bench.record, TASKS, first)
        repeated = await bench.record.fetchval(
            REPEATED, first, TaskEventType.TASK_EVENT_TYPE_STEP_SUCCEEDED
        )
        self.found.update(lost=tasks - found["succeeded"], repeated=repeated)
        recorded = await one_row(bench.record, STEPS, first)
        assert found["tasks"] == tasks, f"{found} of {tasks}"
        assert recorded["steps"] == recorded["succeeded"] == steps, f"{recorded} of {steps}"
        assert kills or recorded["at_once"] == steps, f"{recorded} of {steps}"


async def one_row(record: asyncpg.Connection, query: str, *arguments: object) -> asyncpg.Record:
    """The row of a query that always has one."""
    row = await record.fetchrow(query, *arguments)
    assert row is not None
    return row


async def tidy(record: asyncpg.Connection) -> None:
    """Do now what Postgres would do by and by: vacuum, analyze, write everything to disk."""
    for table in ("tasks", "steps", "task_events"):
        await record.execute(f"VACUUM ANALYZE executor.{table}")
    await record.execute("CHECKPOINT")
