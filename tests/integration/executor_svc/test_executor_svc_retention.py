"""The record gets partitions ahead of time and loses those of the past, and no task with them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from executor_svc.retention import store
from executor_svc.retention.loop import Retention
from executor_svc.retention.ports import BusyError, Partitions
from executor_svc.retention.spans import Partition, wanted
from executor_svc.retention.store import PostgresRetentionStore
from executor_svc.tasks.task_ids import first_id_at
from stepwire.db import migrate, open_pool
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    chain,
    graph,
    output_of,
    state_of,
    transform,
)
from tests.integration.executor_svc.retention_record import (
    HOUR,
    KEEP,
    NOW,
    TABLES,
    add_past,
    add_task,
    in_record,
    partition_names,
    retention,
)
from tests.integration.executor_svc.task_verbs import send

OLD = NOW.replace(minute=0) - KEEP - 10 * HOUR
BEFORE = OLD - HOUR


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database_url, application_name="test", max_size=8) as opened:
        await migrate(opened, package="executor_svc", schema="executor")
        yield opened


def test_spans_of_another_length_leave_no_gap_and_do_not_overlap():
    existing = list(wanted(NOW, HOUR, []))
    assert [each.upper for each in existing[:-1]] == [each.lower for each in existing[1:]]
    assert list(wanted(NOW, HOUR, existing)) == []
    # Two hours each, from noon on: what is there covers one of them and a half.
    longer = list(
        wanted(NOW.replace(hour=12), 2 * HOUR, list(wanted(NOW.replace(hour=12), HOUR, [])))
    )
    noon = NOW.replace(hour=12, minute=0)
    assert [(each.lower, each.upper) for each in longer] == [
        (first_id_at(noon + 3 * HOUR), first_id_at(noon + 4 * HOUR)),
        (first_id_at(noon + 4 * HOUR), first_id_at(noon + 6 * HOUR)),
    ]


async def test_partitions_are_there_before_their_time(pool):
    assert await retention(pool).turn()
    expected = [
        (NOW.replace(minute=0) + place * HOUR).strftime("%Y%m%d_%H%M%S") for place in range(3)
    ]
    for table in TABLES:
        assert await partition_names(pool, table) == expected
    task_id = await add_task(pool, NOW)
    assert await pool.fetchval(
        "SELECT tableoid::regclass::text FROM executor.steps WHERE task_id = $1", task_id
    ) == (f"executor.steps_{expected[0]}")
    assert await retention(pool).turn()
    assert await partition_names(pool) == expected


async def test_partitions_have_what_their_table_has(pool):
    await retention(pool).turn()
    name = (await partition_names(pool))[0]
    for table in TABLES:
        counts = [
            await pool.fetchval(
                "SELECT count(*) FROM pg_indexes WHERE schemaname = 'executor' AND tablename = $1",
                each,
            )
            for each in (table, f"{table}_default", f"{table}_{name}")
        ]
        assert counts[0] == counts[1] == counts[2] > 0, table
    storage = (
        "SELECT attstorage FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attname = 'data'"
    )
    assert await pool.fetchval(storage, f"executor.payloads_{name}") == b"e"


async def test_a_span_that_lies_in_the_default_partition_stays_there(pool):
    task_id = await add_task(pool, NOW)
    assert await retention(pool).turn()
    assert len(await partition_names(pool)) == 2
    assert await in_record(pool) == {task_id}


async def test_what_would_keep_everybody_waiting_is_not_tried_again_at_once(
    pool, monkeypatch, caplog
):
    partition = await add_past(pool, OLD)
    monkeypatch.setattr(store, "LOCK_TIMEOUT", "0")
    monkeypatch.setattr(store, "STATEMENT_TIMEOUT", "50ms")
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE executor.tasks IN ACCESS SHARE MODE")
        assert await retention(pool).turn()
    assert await partition_names(pool) == [partition.name]
    assert caplog.text.count("a partition could not be made") == 3
    assert caplog.text.count("a partition could not be dropped") == 1


async def test_what_is_old_goes_with_all_that_belongs_to_it(pool):
    await add_past(pool, OLD)
    for state in ("SUCCEEDED", "FAILED", "CANCELLED"):
        await add_task(pool, OLD, state=state)
    young = await add_task(pool, NOW)
    assert await retention(pool).turn()
    assert OLD.strftime("%Y%m%d_%H%M%S") not in await partition_names(pool)
    assert await in_record(pool) == {young}


async def test_for_ever_is_for_ever(pool):
    await add_past(pool, OLD)
    task_id = await add_task(pool, OLD)
    assert await retention(pool, keep=timedelta(0)).turn()
    assert await in_record(pool) == {task_id}
    assert OLD.strftime("%Y%m%d_%H%M%S") in await partition_names(pool)


async def test_what_has_not_ended_or_only_just_outlasts_its_partition(pool):
    await add_past(pool, OLD)
    kept = {
        await add_task(pool, OLD, state="RUNNING"),
        await add_task(pool, OLD, state="PAUSED"),
        await add_task(pool, OLD, ended=NOW - HOUR),
    }
    told = await add_task(pool, OLD)
    await pool.execute(
        "INSERT INTO executor.notices (kind, tenant_id, task_id) VALUES ('subscription', 't', $1)",
        told,
    )
    await add_task(pool, OLD)
    assert await retention(pool).turn()
    assert OLD.strftime("%Y%m%d_%H%M%S") not in await partition_names(pool)
    assert await in_record(pool) == {*kept, told}
    await pool.execute("UPDATE executor.tasks SET state = 'SUCCEEDED', ended_at = $1", NOW - KEEP)
    await pool.execute("DELETE FROM executor.notices")
    assert await retention(pool).turn()
    assert await in_record(pool) == set()


async def test_a_child_stays_while_its_parent_does(pool):
    await add_past(pool, BEFORE)
    await add_past(pool, OLD)
    waiting = await add_task(pool, BEFORE, state="RUNNING")
    over = await add_task(pool, BEFORE, state="FAILED")
    child = await add_task(pool, OLD, parent=waiting)
    grandchild = await add_task(pool, OLD, parent=child)
    await add_task(pool, OLD, parent=over)
    assert await retention(pool).turn()
    assert await in_record(pool) == {waiting, child, grandchild}
    await pool.execute(
        "UPDATE executor.tasks SET state = 'SUCCEEDED', ended_at = $2 WHERE task_id = $1",
        waiting,
        NOW - KEEP,
    )
    # Generation by generation.
    for left in ({child, grandchild}, {grandchild}, set()):
        await retention(pool).turn()
        assert await in_record(pool) <= left


@pytest.mark.parametrize("ends_as", [None, "FAILED", "CANCELLED"])
async def test_a_task_retried_in_the_meantime_is_not_dropped(pool, ends_as):
    partition = await add_past(pool, OLD)
    task_id = await add_task(pool, OLD, state="FAILED")
    async with PostgresRetentionStore(pool).alone() as partitions:
        kept = await partitions.kept(partition, ended=NOW - KEEP)
        assert kept.tasks == []
        await pool.execute("SELECT executor.retry_task_v1('1 s', $1, NULL, NULL, NULL, 0)", task_id)
        if ends_as is not None:
            await pool.execute(
                "UPDATE executor.tasks SET state = $2, mark = $2, ended_at = $3 WHERE task_id = $1",
                task_id,
                ends_as,
                NOW,
            )
        with pytest.raises(BusyError):
            await partitions.drop(partition, kept)
    assert await in_record(pool) == {task_id}
    assert await retention(pool).turn()
    assert await in_record(pool) == {task_id}
    assert partition.name not in await partition_names(pool)


async def test_whoever_has_a_task_in_hand_comes_first(pool):
    await add_past(pool, OLD)
    task_id = await add_task(pool, OLD)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT executor.lock_tasks(ARRAY[$1::uuid])", task_id)
        assert not await retention(pool).turn()
        assert task_id in await in_record(pool)
    assert await retention(pool).turn()
    assert await in_record(pool) == set()


async def test_one_executor_works_at_a_time(pool):
    async with PostgresRetentionStore(pool).alone() as partitions:
        assert partitions is not None
        async with PostgresRetentionStore(pool).alone() as others:
            assert others is None
        assert await retention(pool).turn()
        assert await partition_names(pool) == []
    assert all(await asyncio.gather(*(retention(pool).turn() for _ in range(4))))
    assert len(await partition_names(pool)) == 3


async def test_a_partition_that_many_outlast_is_emptied_in_place(pool, monkeypatch):
    monkeypatch.setattr(store, "MOST_KEPT", 2)
    monkeypatch.setattr(store, "PURGE_BATCH", 2)
    await add_past(pool, OLD)
    kept = {await add_task(pool, OLD, state="PAUSED") for _ in range(3)}
    for _ in range(5):
        await add_task(pool, OLD)
    assert await retention(pool).turn()
    assert await in_record(pool) == kept
    assert OLD.strftime("%Y%m%d_%H%M%S") in await partition_names(pool)


async def test_what_has_no_partition_is_deleted_but_for_what_is_in_hand(pool):
    assert await retention(pool).turn()
    held, kept = await add_task(pool, OLD), await add_task(pool, OLD, state="RUNNING")
    for _ in range(3):
        await add_task(pool, OLD)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT executor.lock_tasks(ARRAY[$1::uuid])", held)
        assert await retention(pool).turn()
        assert await in_record(pool) == {held, kept}
    assert await retention(pool).turn()
    assert await in_record(pool) == {kept}


async def test_a_task_that_sleeps_longer_than_all_is_kept_completes_afterwards(mesh):
    # What it has made just now is old by the clock of this retention.
    async with mesh.worker():
        task_id = await mesh.client.create(
            graph(
                transform("before", "input + 1"),
                {"name": "wait", "wait_signal": {"name": "go"}, "depends_on": ["before"]},
                transform("after", "steps.before", depends_on=["wait", "before"]),
            ),
            1,
        )
        await mesh.client.until(task_id, "wait", "WAITING")
        ended = await mesh.client.run(chain(1), 1)
        async with open_pool(mesh.database_url, application_name="test", max_size=4) as pool:
            partitions = await partition_names(pool)
            later = Retention(
                PostgresRetentionStore(pool),
                span=timedelta(days=1),
                keep=KEEP,
                every_seconds=60,
                clock=lambda: datetime.now(UTC) + 2 * KEEP,
            )
            await eventually(later.turn)
            assert not set(partitions) & set(await partition_names(pool))
            left = await pool.fetch("SELECT task_id::text FROM executor.tasks")
            assert [row["task_id"] for row in left] == [task_id]
        assert ended.task_id != task_id
        await send(mesh.client, task_id, "go")
        done = await mesh.client.wait(task_id)
    assert state_of(done) == "SUCCEEDED"
    assert output_of(done) == 2


async def unless_busy(change: Awaitable[bool | None]) -> bool:
    try:
        return await change is not False
    except BusyError:
        return False


async def test_no_task_is_lost_while_partitions_come_and_go(mesh):
    stop = asyncio.Event()
    turns = 0

    async def come_and_go(partitions: Partitions) -> None:
        moment = BEFORE - turns * HOUR
        partition = Partition(f"passing_{turns}", first_id_at(moment), first_id_at(moment + HOUR))
        await eventually(lambda: unless_busy(partitions.add(partition)))
        kept = await partitions.kept(partition, ended=NOW)
        await eventually(lambda: unless_busy(partitions.drop(partition, kept)))

    async def churn(pool: asyncpg.Pool) -> None:
        nonlocal turns
        async with PostgresRetentionStore(pool).alone() as partitions:
            while not stop.is_set():
                await come_and_go(partitions)
                turns += 1

    async with (
        mesh.worker(),
        mesh.worker(),
        open_pool(mesh.database_url, application_name="test", max_size=4) as pool,
    ):
        churning = asyncio.create_task(churn(pool))
        while turns < 4:
            ids = await asyncio.gather(*(mesh.client.create(chain(5), 1) for _ in range(40)))
            done = await asyncio.gather(*(mesh.client.wait(task_id) for task_id in ids))
            assert {state_of(task) for task in done} == {"SUCCEEDED"}
        stop.set()
        await churning
