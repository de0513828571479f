"""Tables that hold a lot before a benchmark begins: cost must grow with the work alone."""

import asyncpg

from bench.record import tidy
from bench.stacks import UNSERVED, Bench

FINISHED = 1_000_000
WAITING = 100_000

# UUIDv7 of a time in milliseconds, with the number `i` as its random part.
ID = """
(lpad(to_hex({milliseconds}), 12, '0') || '7000' || '8' || lpad(to_hex(i), 15, '0'))::uuid
"""
# Spread over the hours before now, as if they had come evenly.
SPREAD = "(extract(epoch FROM now()) * 1000)::bigint - 3600000 * {hours} + i * {step}"

GRAPH = """
INSERT INTO executor.graphs (graph_hash, spec) VALUES ('\\x00', '\\x') ON CONFLICT DO NOTHING
"""
MADE = "CREATE TEMP TABLE made AS SELECT {id} AS task_id FROM generate_series(1, $1::bigint) AS i"
TASKS = """
INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, state, open_sinks, last_cursor,
    input, input_type, traceparent, started_at, ended_at)
SELECT task_id, 'backlog', '\\x00', $1::executor.task_state, $2, 4, 'null', 'application/json',
    '', CASE WHEN $2 = 0 THEN now() END, CASE WHEN $2 = 0 THEN now() END
FROM made
"""
STEPS = """
INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue, priority,
    due_at, waits_for, output, output_type, ready_at, started_at, ended_at)
SELECT task_id, 's0', 0, $1::executor.step_state, 'backlog', $2, 5,
    CASE WHEN $3 = '' THEN NULL ELSE now() + interval '30 days' END, nullif($3, ''),
    CASE WHEN $1 = 'SUCCEEDED' THEN 'null'::bytea END,
    CASE WHEN $1 = 'SUCCEEDED' THEN 'application/json' END,
    now(), now(), CASE WHEN $1 = 'SUCCEEDED' THEN now() END
FROM made
"""
EVENTS = """
INSERT INTO executor.task_events (task_id, last_cursor, events)
SELECT task_id, cursor, '[[1,"",0]]' FROM made, generate_series(1, 3) AS cursor
"""


async def fill(bench: Bench) -> None:
    """Put finished tasks of a day, and tasks that wait, into the record.

    One half of those that wait, waits for a time; the other is ready, in a queue that no
    worker serves.
    """
    record = bench.record
    await record.execute(GRAPH)
    await _add(record, FINISHED, hours=24, state="SUCCEEDED", step="SUCCEEDED")
    await _add(record, WAITING // 2, hours=2, state="RUNNING", step="WAITING", waits_for="sleep")
    await _add(record, WAITING // 2, hours=1, state="PENDING", step="READY", queue=UNSERVED)
    await tidy(record)


async def _add(
    record: asyncpg.Connection,
    count: int,
    *,
    hours: int,
    state: str,
    step: str,
    queue: str = "default",
    waits_for: str = "",
) -> None:
    spread = SPREAD.format(hours=hours, step=3_600_000 * hours // count)
    await record.execute(MADE.format(id=ID.format(milliseconds=spread)), count)
    await record.execute(TASKS, state, int(state != "SUCCEEDED"))
    await record.execute(STEPS, step, queue, waits_for)
    await record.execute(EVENTS)
    await record.execute("DROP TABLE made")
