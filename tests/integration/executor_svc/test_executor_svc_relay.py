"""The relay over a real record: order, repetition, and that nothing is lost."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from executor_svc.metrics import RelayMetrics
from executor_svc.store.notices import PostgresNoticeStore
from executor_svc.waking import relay as relay_module
from executor_svc.waking.relay import Notice, Relay
from stepwire.db import migrate, open_pool
from stepwire.ids import uuid7
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.worker_process import ROOT

NEVER_SECONDS = 3600.0


@dataclass
class Board:
    """Notices in a database of the test's own."""

    pool: asyncpg.Pool
    seen: list[Any] = field(default_factory=list)

    async def leave(
        self, *payloads: Any, kind: str = "test", task_id: UUID | None = None
    ) -> list[int]:
        """Write notices in one transaction."""
        rows = await self.pool.fetch(
            "INSERT INTO executor.notices (kind, tenant_id, task_id, payload)"
            " SELECT $1, 'tenant', coalesce($2, gen_random_uuid()), p::jsonb"
            " FROM unnest($3::text[]) AS p RETURNING notice_id",
            kind,
            task_id,
            [json.dumps({"n": payload}) for payload in payloads],
        )
        return [row["notice_id"] for row in rows]

    async def left(self) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.pool.fetch(
            "SELECT * FROM executor.notices ORDER BY notice_id"
        )
        return rows

    async def none_left(self) -> bool:
        return not await self.left()

    async def note(self, notice: Notice) -> None:
        self.seen.append(notice.payload["n"])

    def relay(self, pool: asyncpg.Pool | None = None, **handlers: Any) -> Relay:
        fields = {"batch": 100, "every_seconds": NEVER_SECONDS}
        fields |= {name: handlers.pop(name) for name in fields if name in handlers}
        store = PostgresNoticeStore(pool or self.pool)
        return Relay(store, handlers or {"test": self.note}, RelayMetrics(), **fields)

    @asynccontextmanager
    async def running(self, **handlers: Any) -> AsyncIterator[Relay]:
        relay = self.relay(**handlers)
        task = asyncio.create_task(relay.run())
        yield relay
        await relay.drain()
        await task


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with open_pool(database_url, application_name="test", max_size=8) as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        yield Board(pool)


def failing(times: int, then: Callable[[Notice], Awaitable[None]]) -> Any:
    """A handler whose first calls fail."""
    calls: list[Notice] = []

    async def handler(notice: Notice) -> None:
        calls.append(notice)
        if len(calls) <= times:
            raise ConnectionError("not now")
        await then(notice)

    handler.calls = calls  # type: ignore[attr-defined]
    return handler


async def test_notices_are_carried_out_and_gone(board):
    task_id = uuid7()
    got: list[Notice] = []

    async def keep(notice: Notice) -> None:
        got.append(notice)

    (notice_id,) = await board.leave("a", task_id=task_id)
    async with board.running(test=keep):
        await eventually(board.none_left)
    (notice,) = got
    assert (notice.notice_id, notice.kind, notice.tenant_id) == (notice_id, "test", "tenant")
    assert (notice.task_id, notice.payload, notice.attempts) == (task_id, {"n": "a"}, 0)
    assert abs(datetime.now(UTC) - notice.created_at) < timedelta(minutes=1)


async def test_a_nudge_is_enough(board):
    async with board.running() as relay:
        await board.leave("first")
        relay.nudge()
        await eventually(board.none_left)
        await board.leave("second")
        relay.nudge()
        await eventually(board.none_left)
    assert board.seen == ["first", "second"]


async def test_the_timer_finds_what_nobody_announced(board):
    async with board.running(every_seconds=0.02):
        await board.leave("silent")
        await eventually(board.none_left)
    assert board.seen == ["silent"]


async def test_the_notices_of_a_task_are_carried_out_in_order(board):
    """Over several batches, though the first takes longest."""
    task_id = uuid7()

    async def slower_at_first(notice: Notice) -> None:
        for _ in range(notice.payload["n"], 25):
            await asyncio.sleep(0)
        await board.note(notice)

    for number in range(0, 25, 5):
        await board.leave(*range(number, number + 5), task_id=task_id)
    async with board.running(test=slower_at_first, batch=10):
        await eventually(board.none_left)
    assert board.seen == list(range(25))


async def test_other_tasks_do_not_wait_for_a_slow_one(board):
    go = asyncio.Event()

    async def handler(notice: Notice) -> None:
        if notice.payload["n"] == "slow":
            await go.wait()
        await board.note(notice)

    await board.leave("slow", "quick", "quick")
    async with board.running(test=handler):
        await eventually(lambda: board.seen == ["quick", "quick"])
        go.set()
        await eventually(board.none_left)


async def test_a_failure_is_repeated_after_some_time(board):
    handler = failing(2, board.note)
    began = datetime.now(UTC)
    await board.leave("a")
    async with board.running(test=handler):
        await eventually(board.none_left)
    assert board.seen == ["a"]
    assert [notice.attempts for notice in handler.calls] == [0, 1, 2]
    # Half of 0.5 s and of 1 s at least.
    assert datetime.now(UTC) - began >= timedelta(seconds=0.75)


async def test_waits_grow_to_a_minute(board):
    relay = board.relay()
    assert timedelta(seconds=0.25) <= relay._backoff(0) <= timedelta(seconds=0.5)
    assert timedelta(seconds=2) <= relay._backoff(3) <= timedelta(seconds=4)
    assert timedelta(seconds=30) <= relay._backoff(10_000) <= timedelta(minutes=1)


async def test_a_failure_holds_back_what_follows_about_the_same_task(board, monkeypatch):
    monkeypatch.setattr(relay_module, "FIRST_BACKOFF", timedelta(hours=1))
    monkeypatch.setattr(relay_module, "LONGEST_BACKOFF", timedelta(hours=1))
    first, behind = await board.leave("bad", "behind", task_id=uuid7())
    await board.leave("other")

    async def handler(notice: Notice) -> None:
        if notice.payload["n"] == "bad":
            raise ConnectionError("not now")
        await board.note(notice)

    async with board.running(test=handler):
        await eventually(lambda: board.seen == ["other"])
    left = await board.left()
    assert [(row["notice_id"], row["attempts"]) for row in left] == [(first, 1), (behind, 0)]
    for row in left:
        assert row["due_at"] > datetime.now(UTC) + timedelta(minutes=29)


async def test_one_that_always_fails_stops_nobody(board, monkeypatch):
    monkeypatch.setattr(relay_module, "FIRST_BACKOFF", timedelta(milliseconds=1))

    async def handler(notice: Notice) -> None:
        if notice.payload["n"] == "bad":
            raise ConnectionError("never")
        await board.note(notice)

    await board.leave("bad", *range(50))
    async with board.running(test=handler, batch=1):
        await eventually(lambda: sorted(board.seen) == list(range(50)))
    (row,) = await board.left()
    assert row["payload"] == '{"n": "bad"}'


async def test_a_handler_that_hangs_has_failed(board, monkeypatch):
    monkeypatch.setattr(relay_module, "HANDLER_SECONDS", 0.05)
    calls: list[int] = []

    async def hang_once(notice: Notice) -> None:
        calls.append(notice.attempts)
        if len(calls) == 1:
            await asyncio.Event().wait()

    await board.leave("a")
    async with board.running(test=hang_once):
        await eventually(board.none_left)
    assert calls == [0, 1]


async def test_unknown_kinds_are_left_alone(board):
    await board.leave("a", kind="of_the_future")
    await board.leave("b")
    async with board.running():
        await eventually(lambda: board.seen == ["b"])
    (row,) = await board.left()
    assert (row["kind"], row["attempts"]) == ("of_the_future", 0)


async def test_two_relays_share_the_work(board):
    """Each notice once, though both look at the same time."""
    await board.leave(*range(200))
    async with board.running(batch=7), board.running(batch=7):
        await eventually(board.none_left)
    assert sorted(board.seen) == list(range(200))


async def test_what_one_relay_has_in_hand_another_passes_over(board):
    go = asyncio.Event()

    async def hold(notice: Notice) -> None:
        await go.wait()
        await board.note(notice)

    await board.leave("held")
    async with board.running(test=hold):
        await eventually(lambda: _locked(board))
        await board.leave("free")
        async with board.running():
            await eventually(lambda: board.seen == ["free"])
        go.set()
        await eventually(board.none_left)
    assert board.seen == ["free", "held"]


async def _locked(board: Board) -> bool:
    rows = await board.pool.fetch("SELECT 1 FROM executor.notices FOR UPDATE SKIP LOCKED")
    return not rows


async def test_nothing_is_carried_out_before_its_commit(board):
    async with board.running(every_seconds=0.01) as relay, board.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO executor.notices (kind, tenant_id, task_id, payload)"
            " VALUES ('test', 'tenant', gen_random_uuid(), '{\"n\": \"undone\"}')"
        )
        relay.nudge()
        await board.leave("done")
        await eventually(lambda: board.seen == ["done"])
        await transaction.rollback()
    assert board.seen == ["done"]


async def test_drain_lets_a_batch_end(board):
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(notice: Notice) -> None:
        begun.set()
        await go.wait()
        await board.note(notice)

    await board.leave("a")
    relay = board.relay(test=handler)
    running = asyncio.create_task(relay.run())
    await begun.wait()
    await board.leave("b")
    draining = asyncio.create_task(relay.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    go.set()
    await draining
    await running
    assert board.seen == ["a"]
    assert len(await board.left()) == 1


async def test_a_lost_connection_loses_no_notice(board):
    """The backend is terminated while a handler is at work: the notice comes again."""
    begun: list[int] = []
    cut = asyncio.Event()

    async def handler(notice: Notice) -> None:
        begun.append(notice.notice_id)
        if len(begun) == 1:
            await cut.wait()
        await board.note(notice)

    (notice_id,) = await board.leave("a")
    async with board.running(test=handler, every_seconds=0.02):
        await eventually(lambda: len(begun) == 1)
        await board.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        cut.set()
        await eventually(board.none_left)
    assert begun == [notice_id, notice_id]


RELAY_PROCESS = """
import asyncio, sys
from executor_svc.metrics import RelayMetrics
from executor_svc.waking.relay import Relay
from executor_svc.store.notices import PostgresNoticeStore
from stepwire.db import open_pool

async def main(url):
    async with open_pool(url, application_name="relay") as pool:
        async def handler(notice):
            await pool.execute("INSERT INTO effects VALUES ($1)", notice.payload["n"])
            print(notice.payload["n"], flush=True)
            if notice.payload["n"] == 9:
                await asyncio.Event().wait()
        relay = Relay(
            PostgresNoticeStore(pool), {"test": handler}, RelayMetrics(), batch=10,
            every_seconds=0.05,
        )
        await relay.run()

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def relay_process(database_url: str) -> Iterator[Iterator[str]]:
    """Run a relay; give what it prints, and kill it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY_PROCESS, database_url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout.readline, "")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_killed_relay_loses_no_notice(board, database_url):
    """Killed between the effects of a batch and its deletion, again and again."""
    await board.pool.execute("CREATE TABLE effects (n integer)")
    await board.leave(*range(30))
    for _ in range(3):
        with relay_process(database_url) as lines:
            seen = [int(await asyncio.to_thread(next, lines)) for _ in range(10)]
        assert sorted(seen) == list(range(10))
        # What the dead one had in hand is still there, and free at once.
        assert len(await board.left()) == 30
        await eventually(lambda: _free(board, 30))
    async with board.running():
        await eventually(board.none_left)
    assert sorted(board.seen) == list(range(30))
    effects = await board.pool.fetch("SELECT n FROM effects")
    assert len(effects) == 30
    assert {row["n"] for row in effects} == set(range(10))


async def _free(board: Board, count: int) -> bool:
    rows = await board.pool.fetch("SELECT 1 FROM executor.notices FOR UPDATE SKIP LOCKED")
    return len(rows) == count


async def test_a_long_queue_is_read_by_its_index(board):
    """The plan is made while the table is empty, and kept."""
    store = PostgresNoticeStore(board.pool)

    async def work(notices: Any) -> Any:
        await board.note(notices[0])
        return ()

    for _ in range(10):
        assert await store.carry_out(["test"], limit=100, work=work) == 0
    await board.leave(*range(3000))
    scans = (
        "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot(), t.seq_scan, i.idx_scan"
        " FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)"
        " WHERE i.indexrelname = 'notices_due'"
    )
    async with board.pool.acquire() as connection:
        await connection.fetch(scans)
        before = await connection.fetchrow(scans)
        one = PostgresNoticeStore(_Only(connection))
        assert await one.carry_out(["test"], limit=100, work=work) == 100
        await connection.fetch(scans)
        after = await connection.fetchrow(scans)
    assert before is not None
    assert after is not None
    assert board.seen == [0]
    assert after["seq_scan"] == before["seq_scan"]
    assert after["idx_scan"] > before["idx_scan"]


class _Only:
    """A pool of one connection, whose statistics the test can flush."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self._connection
