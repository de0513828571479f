"""Graphs go when nothing needs them and nobody has said for long that he will use them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from executor_svc.graphs.graph import Graph
from executor_svc.retention.loop import GRAPH_MARGIN
from executor_svc.store.rows import queries
from executor_svc.workflows.records import Defaults, Draft, VersionKey
from executor_svc.workflows.store import PostgresWorkflowStore
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import transform
from tests.integration.executor_svc.retention_record import (
    HOUR,
    KEEP,
    NOW,
    add_past,
    add_task,
    retention,
)
from tests.integration.executor_svc.transition_record import Record, compiled_graph

LONG_AGO = NOW - KEEP - GRAPH_MARGIN - HOUR
OLD = NOW.replace(minute=0) - KEEP - 10 * HOUR


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database_url, application_name="test", max_size=8) as opened:
        await migrate(opened, package="executor_svc", schema="executor")
        yield opened


def a_graph(number: int) -> Graph:
    return compiled_graph(transform("a", f"{number}"))


async def add_graph(
    record: Record, number: int, *, used: datetime = LONG_AGO, **fields: Any
) -> Graph:
    """A graph that was used last at a time."""
    graph = a_graph(number)
    await record.tasks.add_graphs([graph])
    await record.pool.execute(
        "UPDATE executor.graphs SET used_at = $2 WHERE graph_hash = $1", graph.graph_hash, used
    )
    return graph


async def run_by(pool: asyncpg.Pool, graph: Graph, *, state: str = "PAUSED") -> UUID:
    """An old task that runs a graph, and so keeps it as long as it is there."""
    task_id = await add_task(pool, OLD, state=state)
    await pool.execute(
        "UPDATE executor.tasks SET graph_hash = $2 WHERE task_id = $1", task_id, graph.graph_hash
    )
    return task_id


async def stored(pool: asyncpg.Pool, *graphs: Graph) -> list[bool]:
    """Which of the graphs are in the record."""
    rows = await pool.fetch("SELECT graph_hash FROM executor.graphs")
    hashes = {row["graph_hash"] for row in rows}
    return [graph.graph_hash in hashes for graph in graphs]


async def test_graphs_go_that_nothing_needs(pool):
    record = Record(pool)
    await add_past(pool, OLD)
    unused, run, scope, added, version = [await add_graph(record, each) for each in range(5)]
    young = await add_graph(record, 5, used=LONG_AGO + 2 * HOUR)
    await run_by(pool, unused, state="SUCCEEDED")
    kept = await run_by(pool, run)
    await pool.execute(
        "UPDATE executor.steps SET graph_hash = $2, added_graph = $3 WHERE task_id = $1",
        kept,
        scope.graph_hash,
        added.graph_hash,
    )
    draft = Draft(version.graph_hash, Defaults({}, 0))
    await PostgresWorkflowStore(pool).add(VersionKey("t", "flow", "1"), 1, draft, version)
    await pool.execute("UPDATE executor.graphs SET used_at = $1", LONG_AGO)
    await add_graph(record, 5, used=LONG_AGO + 2 * HOUR)
    graphs = (unused, run, scope, added, version, young)
    assert await retention(pool, keep=timedelta(0)).turn()
    assert await stored(pool, *graphs) == [True] * 6
    assert await retention(pool).turn()
    assert await stored(pool, *graphs) == [False] + [True] * 5
    # With their task, though not in the same turn: they have been looked at just now.
    await pool.execute("UPDATE executor.tasks SET state = 'SUCCEEDED', ended_at = $1", NOW - KEEP)
    assert await retention(pool).turn()
    assert await stored(pool, *graphs) == [False] + [True] * 5
    await pool.execute("UPDATE executor.graphs SET used_at = $1", LONG_AGO)
    assert await retention(pool).turn()
    assert await stored(pool, *graphs) == [False, False, False, False, True, False]


async def test_a_graph_that_is_about_to_be_used_is_not_lost(pool):
    """Whoever says so first comes first; the other finds what became of it."""
    record = Record(pool)
    graph = await add_graph(record, 1)
    async with pool.acquire() as creator, creator.transaction():
        await creator.execute(queries.add_graphs, [graph.graph_hash], [graph.spec])
        # It is in hand, and passed over; not waited for.
        assert await retention(pool).turn()
    assert await stored(pool, graph) == [True]
    assert await retention(pool).turn()
    assert await stored(pool, graph) == [True]

    await add_graph(record, 1)
    async with pool.acquire() as dropping:
        transaction = dropping.transaction()
        await transaction.start()
        upper = UUID(int=0)
        drop = "SELECT executor.drop_graphs_v1($1, $2, 10)"
        assert await dropping.fetchval(drop, NOW - KEEP - GRAPH_MARGIN, upper) == 1
        process = dropping.get_server_pid()
        adding = asyncio.create_task(record.tasks.add_graphs([graph]))
        await eventually(lambda: somebody_waits_for(pool, process))
        await transaction.commit()
        await adding
    assert await stored(pool, graph) == [True]


async def somebody_waits_for(pool: asyncpg.Pool, process: int) -> bool:
    found: bool = await pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))",
        process,
    )
    return found


async def test_known_graphs_are_written_once_a_day(pool):
    record = Record(pool)
    graph = await add_graph(record, 1, used=datetime.now(NOW.tzinfo) - 20 * HOUR)
    place = "SELECT ctid::text FROM executor.graphs"
    before = await pool.fetchval(place)
    await record.tasks.add_graphs([graph])
    assert await pool.fetchval(place) == before
    await add_graph(record, 1, used=datetime.now(NOW.tzinfo) - 25 * HOUR)
    before = await pool.fetchval(place)
    await record.tasks.add_graphs([graph])
    assert await pool.fetchval(place) != before


async def test_a_fork_keeps_the_graphs_of_a_task_that_is_to_go(pool):
    """It holds the task until it is there itself, and then needs its graphs."""
    record = Record(pool)
    assert await retention(pool).turn()
    graph, added = await add_graph(record, 1), await add_graph(record, 2)
    source = await run_by(pool, graph, state="SUCCEEDED")
    await pool.execute(
        "UPDATE executor.steps SET added_graph = $2 WHERE task_id = $1", source, added.graph_hash
    )
    new = await add_task(pool, NOW)
    async with pool.acquire() as forking, forking.transaction():
        assert await forking.fetchval(queries.mark_fork, new, source) == new
        assert await retention(pool).turn()
        await forking.execute(queries.use_graphs_of, source)
        assert await retention(pool).turn()
        await forking.execute(
            "UPDATE executor.tasks SET graph_hash = $2 WHERE task_id = $1", new, graph.graph_hash
        )
    assert await retention(pool).turn()
    left = await pool.fetch("SELECT task_id FROM executor.tasks")
    assert [row["task_id"] for row in left] == [new]
    assert await stored(pool, graph, added) == [True, True]
    _, task = await record.task(transform("a", "1"))
    with pytest.raises(StepwireError) as caught:
        await record.tasks.fork(replace(task, task_id=uuid7()), [], source=source)
    assert caught.value.reason == Reason.TASK_NOT_FOUND
