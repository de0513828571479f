"""What waking and releasing costs when there is very much else: it depends on what is found."""

import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from stepwire.db import open_pool
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.limit_record import REPUBLISH, LimitRecord

STEPS = 60_000
FOUND = 100
# Blocks that may be touched for each step found, to read, lock and write it and its indexes;
# and those for each tenant that waits and each partition, whatever is found.
BLOCKS_PER_STEP, BLOCKS = 40, 1000
REPUBLISH_QUERY = """
    SELECT 1 FROM executor.steps
    WHERE state = 'READY' AND queue = 'default' AND due_at <= now() ORDER BY due_at LIMIT 100"""

TABLES = """
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relnamespace = 'executor'::regnamespace AND relkind = 'r'"""


@pytest.fixture(scope="module")
async def filled(postgres: PostgresServer, executor_template: str) -> AsyncIterator[str]:
    """A database to be copied: steps in all states, of 20 tenants, in three partitions."""
    with fresh_database(postgres, template=executor_template) as url:
        async with open_pool(url, application_name="test") as pool:
            await fill(pool)
            for table in await pool.fetch(TABLES):
                # What is not analyzed stays so, however long it is copied from.
                await pool.execute(f"ALTER TABLE {table['name']} SET (autovacuum_enabled = off)")
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture(params=["analyzed", "not analyzed"])
async def full(
    postgres: PostgresServer, filled: str, request: pytest.FixtureRequest
) -> AsyncIterator[LimitRecord]:
    with fresh_database(postgres, template=filled) as url:
        async with open_pool(url, application_name="test") as pool:
            if request.param == "analyzed":
                await pool.execute("ANALYZE")
            # At its first statement, a session reads what the tables are like.
            await pool.execute("SELECT * FROM executor.release_v1($1, 'none', 1)", REPUBLISH)
            yield LimitRecord(pool)


async def fill(pool: asyncpg.Pool) -> None:
    for number in range(3):
        await pool.execute(
            f"CREATE TABLE executor.steps_{number} PARTITION OF executor.steps"
            f" FOR VALUES FROM ('0{number}000000-0000-0000-0000-000000000000')"
            f" TO ('0{number + 1}000000-0000-0000-0000-000000000000')"
        )
    ids = (
        "('0' || i % 3 || '000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS task_id,"
        " 't' || i % 20 AS tenant, i FROM generate_series(1, $1::integer) AS i"
    )
    await pool.execute(
        "INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, open_sinks, input,"
        f" input_type, traceparent) SELECT r.task_id, r.tenant, 'g', 1, '1', 'j', ''"
        f" FROM (SELECT {ids}) AS r",
        STEPS,
    )
    await pool.execute(
        "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue,"
        " priority, due_at, waits_for, ready_at, ended_at) SELECT r.task_id, 'a', 0, CASE i % 4"
        " WHEN 2 THEN 'WAITING' WHEN 3 THEN 'SUCCEEDED' ELSE 'READY' END::executor.step_state,"
        " r.tenant, 'default', 5, CASE i % 4 WHEN 1 THEN now() + interval '1 hour'"
        " WHEN 2 THEN now() + interval '1 hour' END, CASE i % 4 WHEN 2 THEN 'retry' END, now(),"
        f" CASE i % 4 WHEN 3 THEN now() END FROM (SELECT {ids}) AS r",
        STEPS,
    )
    for state in ("READY", "WAITING"):
        await pool.execute(
            "UPDATE executor.steps SET due_at = now() - interval '1 s' WHERE task_id IN ("
            "SELECT task_id FROM executor.steps WHERE state = $1 AND due_at IS NOT NULL LIMIT $2)",
            state,
            FOUND,
        )


async def blocks(record, statement, *arguments):
    """Run a statement; return how many rows it gave and how many blocks it touched."""
    text = await record.pool.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments
    )
    plan = json.loads(text)[0]["Plan"]
    return plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def test_what_is_found_decides_what_it_costs(full):
    bound = BLOCKS + FOUND * BLOCKS_PER_STEP
    for statement, arguments in (
        ("SELECT * FROM executor.release_v1($1, 'default', $2)", (REPUBLISH, FOUND)),
        ("SELECT * FROM executor.wake_due_v1($1, $2)", (REPUBLISH, FOUND)),
        (REPUBLISH_QUERY, ()),
    ):
        rows, touched = await blocks(full, statement, *arguments)
        assert rows == FOUND, statement
        assert touched < bound, (statement, touched)


async def test_what_finds_nothing_costs_nearly_nothing(full):
    for statement, arguments in (
        ("SELECT * FROM executor.release_v1($1, 'gpu', $2)", (REPUBLISH, FOUND)),
        ("SELECT * FROM executor.lose_orphans_v1($1, $2)", (REPUBLISH, FOUND)),
        ("SELECT * FROM executor.tidy_limits_v1($1)", (FOUND,)),
    ):
        rows, touched = await blocks(full, statement, *arguments)
        assert rows == 0, statement
        assert touched < BLOCKS, (statement, touched)


async def test_a_claim_costs_what_it_claims(full):
    released = await full.releases.release("default", room=FOUND)
    rows, touched = await blocks(
        full,
        "SELECT * FROM executor.claim_v1($1, $2, $3, $4)",
        await full.session(),
        [ref.task_id for ref in released],
        [ref.step_id for ref in released],
        [ref.attempt for ref in released],
    )
    assert rows == FOUND
    assert touched < BLOCKS + FOUND * BLOCKS_PER_STEP, touched


async def test_places_cost_what_is_asked_for(full):
    session_id = await full.session()
    released = await full.releases.release("default", room=FOUND)
    attempts = await full.steps.claim(session_id, released)
    tasks = [attempt.task.task_id for attempt in attempts]
    rows, touched = await blocks(
        full,
        "SELECT * FROM executor.acquire_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        session_id,
        tasks,
        ["a"] * FOUND,
        [1] * FOUND,
        ["t"] * FOUND,
        ["k"] * FOUND,
        [1] * FOUND,
        [0] * FOUND,
        [REPUBLISH] * FOUND,
    )
    # One is accepted; each of the others has an event, and all of them a limit.
    assert rows == FOUND + 1
    assert touched < BLOCKS + FOUND * BLOCKS_PER_STEP, touched
    await full.pool.execute("DELETE FROM executor.limit_holders")
    await full.pool.execute("UPDATE executor.limit_waiters SET max_running = 1000")
    rows, touched = await blocks(
        full, "SELECT * FROM executor.admit_v1($1, '{t}', '{k}', 1000)", REPUBLISH
    )
    assert rows == FOUND - 1
    assert touched < BLOCKS + FOUND * BLOCKS_PER_STEP, touched
