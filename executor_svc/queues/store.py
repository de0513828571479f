"""Queues, workers and failed steps on Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from executor_svc.engine.records import Failure, TaskState
from executor_svc.queues.ports import StepKey
from executor_svc.queues.records import (
    Backlog,
    FailedFilter,
    FailedStep,
    Pause,
    RecentTraffic,
    Snapshot,
    TenantWeight,
    Traffic,
    WorkerRecord,
)
from executor_svc.store.rows import Row, failure_of
from stepwire.db import load_queries, retryable

queries = load_queries("executor_svc", "sql/queues.sql")

# Longest wait for transactions that may start steps of a queue that was paused meanwhile. Theirs
# take milliseconds; somebody may read the table, and take his time, to copy the database.
STARTS_SECONDS = 5.0
# Most steps that are taken back in one commit when a queue is resumed.
UNPUBLISH_BATCH = 10_000
LOOK_SECONDS = 0.01


class PostgresQueueStore:
    """See `executor_svc.queues.ports`: QueueStore, TrafficStore, FailureStore, WeightStore."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def snapshot(self) -> Snapshot:
        # Not one transaction: figures of slightly different times do no harm, a snapshot
        # held for long would keep vacuum from its work.
        async with self._pool.acquire() as connection:
            backlogs = await connection.fetch(queries.count_backlogs)
            traffic = await connection.fetch(queries.recent_traffic)
            pauses = await connection.fetch(queries.paused_queues)
            workers = await connection.fetch(queries.list_workers)
            taken_at: datetime = await connection.fetchval(queries.time_now)
        return Snapshot(
            taken_at=taken_at,
            backlogs={row["queue"]: _backlog_of(row) for row in backlogs},
            traffic={row["queue"]: _recent_traffic_of(row) for row in traffic},
            pauses={row["queue"]: Pause(row["note"], row["paused_at"]) for row in pauses},
            workers=[_worker_of(row) for row in workers],
        )

    @retryable()
    async def set_weight(self, tenant_id: str, weight: int) -> None:
        if weight == 1:
            await self._pool.execute(queries.unset_weight, tenant_id)
        else:
            await self._pool.execute(queries.set_weight, tenant_id, weight)

    @retryable()
    async def weights(self, *, after: str, limit: int) -> Sequence[TenantWeight]:
        rows = await self._pool.fetch(queries.list_weights, after, limit)
        return [TenantWeight(row["tenant_id"], row["weight"]) for row in rows]

    @retryable()
    async def running(self, queue: str) -> int:
        count: int = await self._pool.fetchval(queries.count_running, queue)
        return count

    @retryable()
    async def add(self, queues: Sequence[str]) -> None:
        await self._pool.execute(queries.add_queues, list(queues))

    @retryable()
    async def pause(self, queue: str, *, note: str, request_id: str = "") -> None:
        async with self._pool.acquire() as connection:
            await connection.execute(queries.pause_queue, queue, note, request_id or None)
            # What had looked before starts its steps all the same: that is waited for.
            left = await _reading(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(STARTS_SECONDS):
                    while left:
                        await asyncio.sleep(LOOK_SECONDS)
                        left &= await _reading(connection)

    @retryable()
    async def resume(self, queue: str, *, request_id: str = "") -> bool:
        if not await self._pool.fetchval(queries.is_paused, queue, request_id or None):
            return False
        # A long backlog is not to keep the queue paused for good: who loses patience meanwhile
        # finds less of it the next time.
        taken = UNPUBLISH_BATCH
        while taken == UNPUBLISH_BATCH:
            taken = await self._pool.fetchval(queries.unpublish_queue, queue, UNPUBLISH_BATCH)
        return (
            await self._pool.fetchval(queries.resume_queue, queue, request_id or None) is not None
        )

    @retryable()
    async def drain_worker(self, session_id: UUID) -> WorkerRecord | None:
        row = await self._pool.fetchrow(queries.drain_worker, session_id)
        return None if row is None else _worker_of(row)

    # Not tried again: a second try could count twice, and the caller keeps what is refused.
    async def add_traffic(self, traffic: Mapping[str, Traffic]) -> None:
        ordered = sorted(traffic.items())
        await self._pool.execute(
            queries.add_traffic,
            [queue for queue, _ in ordered],
            [traffic.arrived for _, traffic in ordered],
            [traffic.started for _, traffic in ordered],
            [traffic.finished for _, traffic in ordered],
            [traffic.failed for _, traffic in ordered],
            [traffic.wait_seconds for _, traffic in ordered],
            [traffic.busy_seconds for _, traffic in ordered],
        )

    @retryable()
    async def forget_traffic(self, older_than: timedelta) -> None:
        await self._pool.execute(queries.forget_traffic, older_than)

    @retryable()
    async def failed_steps(
        self, tenant_id: str, selected: FailedFilter, *, before: StepKey | None, limit: int
    ) -> Sequence[FailedStep]:
        task_id, step_id = before or (None, None)
        rows = await self._pool.fetch(
            queries.list_failed_steps, *_arguments(tenant_id, selected), task_id, step_id, limit
        )
        return [_failed_step_of(row) for row in rows]

    @retryable()
    async def count_failed(
        self, tenant_id: str, selected: FailedFilter, *, newest: int
    ) -> Mapping[str, int]:
        rows = await self._pool.fetch(
            queries.count_failed_steps, *_arguments(tenant_id, selected), newest
        )
        return {row["reason"] or "": row["steps"] for row in rows}

    @retryable()
    async def failed_tasks(
        self, tenant_id: str, selected: FailedFilter, *, after: UUID | None, limit: int
    ) -> Sequence[UUID]:
        rows = await self._pool.fetch(
            queries.list_failed_tasks, *_arguments(tenant_id, selected), after, limit
        )
        return [row["task_id"] for row in rows]

    @retryable()
    async def failed_per_task(self, task_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        rows = await self._pool.fetch(queries.count_failed_of_tasks, list(task_ids))
        return {row["task_id"]: row["steps"] for row in rows}


async def _reading(connection: PoolConnectionProxy) -> set[str]:
    """Return the transactions that have read which queues are paused."""
    return {row["virtualtransaction"] for row in await connection.fetch(queries.reading_queues)}


def _arguments(tenant_id: str, selected: FailedFilter) -> list[object]:
    return [
        tenant_id,
        selected.reason,
        selected.queue,
        selected.workflow,
        selected.failed_from,
        selected.failed_before,
    ]


def _backlog_of(row: Row) -> Backlog:
    return Backlog(row["ready"], row["running"], row["waiting"], row["oldest_ready_at"])


def _recent_traffic_of(row: Row) -> RecentTraffic:
    return RecentTraffic(_traffic_of(row, ""), _traffic_of(row, "hour_"), row["minute_span"])


def _traffic_of(row: Row, prefix: str) -> Traffic:
    return Traffic(
        arrived=row[f"{prefix}arrived"],
        started=row[f"{prefix}started"],
        finished=row[f"{prefix}finished"],
        failed=row[f"{prefix}failed"],
        wait_seconds=row[f"{prefix}wait_seconds"],
        busy_seconds=row[f"{prefix}busy_seconds"],
    )


def _worker_of(row: Row) -> WorkerRecord:
    return WorkerRecord(
        session_id=row["session_id"],
        name=row["worker"],
        queues=row["queues"],
        slots=row["slots"],
        busy=row["busy"],
        version=row["version"],
        started_at=row["started_at"],
        expires_at=row["expires_at"],
        draining=row["draining"],
    )


def _failed_step_of(row: Row) -> FailedStep:
    return FailedStep(
        task_id=row["task_id"],
        step_id=row["step_id"],
        queue=row["queue"],
        workflow=row["workflow"],
        attempt=row["attempt"],
        failure=failure_of(row["failure"]) or Failure("", ""),
        ended_at=row["ended_at"],
        task_state=TaskState(row["task_state"]),
    )
