"""ScheduleStore on Postgres."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from executor_svc.schedules import rules
from executor_svc.schedules.ports import Busy, Change
from executor_svc.schedules.records import (
    Answered,
    Config,
    Held,
    OverlapPolicy,
    Request,
    Run,
    Schedule,
)
from stepwire.db import load_queries, retryable
from stepwire.ids import uuid7

REQUESTS_KEPT: Final = timedelta(days=1)

queries = load_queries("executor_svc", "sql/schedules.sql")

Connection = asyncpg.Connection | PoolConnectionProxy


class PostgresScheduleStore:
    """See `executor_svc.schedules.ports.ScheduleStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def now(self) -> datetime:
        now: datetime = await self._pool.fetchval(queries.schedule_clock)
        return now

    @retryable()
    async def add(
        self, schedule: Schedule, request: Request | None, *, limit: int
    ) -> Schedule | Answered:
        new = schedule
        async with self._pool.acquire() as connection, connection.transaction():
            if (known := await _enter(connection, new.schedule_id, request)) is not None:
                return known
            row = await connection.fetchrow(
                queries.add_schedule,
                new.schedule_id,
                new.tenant_id,
                new.name,
                *_columns(new.config),
                new.paused,
                new.note,
                new.next_at,
                new.due_at,
                limit,
            )
            if row is None:
                row = await connection.fetchrow(queries.find_schedule, new.tenant_id, new.name)
                if row is None:
                    raise rules.too_many(limit)
                # Where the id is ours, this very call was committed and its answer lost.
                if row["schedule_id"] != new.schedule_id:
                    raise rules.exists(new.name)
            return _schedule_of(row)

    @retryable()
    async def find(self, tenant_id: str, name: str) -> Schedule | None:
        row = await self._pool.fetchrow(queries.find_schedule, tenant_id, name)
        return None if row is None else _schedule_of(row)

    @retryable()
    async def get(self, tenant_id: str, schedule_id: UUID) -> Schedule | None:
        row = await self._pool.fetchrow(queries.get_schedule, tenant_id, schedule_id)
        return None if row is None else _schedule_of(row)

    @retryable()
    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Schedule]:
        rows = await self._pool.fetch(queries.list_schedules, tenant_id, after, limit)
        return [_schedule_of(row) for row in rows]

    @retryable()
    async def change(
        self, tenant_id: str, name: str, change: Change, request: Request | None
    ) -> Schedule | Answered:
        async with self._pool.acquire() as connection, connection.transaction():
            if (known := await _known(connection, request)) is not None:
                return known
            row = await _lock(connection, tenant_id, name)
            if (known := await _enter(connection, row["schedule_id"], request)) is not None:
                return known
            old = _schedule_of(row)
            new = change(old, row["now"])
            if new is old:
                return old
            written = await connection.fetchrow(
                queries.write_schedule,
                new.schedule_id,
                *_columns(new.config),
                new.paused,
                new.note,
                new.next_at,
                new.due_at,
                new.buffered_at,
                _json(new.recent),
            )
            assert written is not None
            return _schedule_of(written)

    @retryable()
    async def delete(
        self, tenant_id: str, name: str, check: Callable[[Schedule], None], request: Request | None
    ) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if await _known(connection, request) is not None:
                return
            row = await _lock(connection, tenant_id, name)
            if await _enter(connection, row["schedule_id"], request) is not None:
                return
            check(_schedule_of(row))
            await connection.execute(queries.delete_schedule, row["schedule_id"])

    @retryable()
    async def answered(self, request: Request) -> Answered | None:
        async with self._pool.acquire() as connection:
            return await _known(connection, request)

    @retryable()
    async def begin_trigger(self, held: Held, request: Request) -> Answered:
        async with self._pool.acquire() as connection, connection.transaction():
            await _enter(connection, held.schedule.schedule_id, request)
            begun = await _known(connection, request)
            assert begun is not None
            return begun

    @retryable()
    async def take_due(self, *, limit: int, lease: timedelta) -> Sequence[Held]:
        rows = await self._pool.fetch(queries.take_due_schedules, uuid7(), lease, limit)
        return [_held_of(row) for row in rows]

    @retryable()
    async def take(self, tenant_id: str, name: str, *, lease: timedelta) -> Held:
        row = await self._pool.fetchrow(queries.take_schedule, tenant_id, name, uuid7(), lease)
        if row is None:
            if await self._pool.fetchrow(queries.find_schedule, tenant_id, name) is None:
                raise rules.not_found(name)
            raise Busy
        return _held_of(row)

    @retryable()
    async def begun(self, schedule: Schedule) -> Mapping[datetime, UUID]:
        schedule_id, end = schedule.schedule_id, rules.firing_ids_end(schedule.schedule_id)
        following, waiting = (
            None if nominal_at is None else rules.firing_id(schedule_id, nominal_at)
            for nominal_at in (schedule.next_at, schedule.buffered_at)
        )
        rows = await self._pool.fetch(
            queries.begun_firings, schedule.tenant_id, following or end, end, waiting
        )
        return {rules.nominal_of(schedule_id, row["request_id"]): row["task_id"] for row in rows}

    @retryable()
    async def record(self, firings: Sequence[tuple[Held, Schedule]]) -> None:
        await self._pool.execute(queries.record_firings, *_firings(firings))

    @retryable()
    async def record_trigger(
        self, held: Held, schedule: Schedule, run: Run, request: Request
    ) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetch(queries.record_firings, *_firings([(held, schedule)])):
                await connection.execute(
                    queries.end_trigger,
                    request.tenant_id,
                    request.request_id,
                    orjson.dumps(run.to_json()).decode(),
                )

    @retryable()
    async def put_back(self, held: Sequence[Held], *, pause: timedelta) -> None:
        ids = [each.schedule.schedule_id for each in held]
        await self._pool.execute(
            queries.put_back_schedules, ids, [each.holder for each in held], pause
        )

    @retryable()
    async def until_due(self) -> timedelta | None:
        left: timedelta | None = await self._pool.fetchval(queries.until_due_schedule)
        return left

    @retryable()
    async def awaited(self) -> frozenset[UUID]:
        rows = await self._pool.fetch(queries.awaited_tasks)
        return frozenset(row["last_task_id"] for row in rows)


async def _lock(connection: Connection, tenant_id: str, name: str) -> asyncpg.Record:
    row = await connection.fetchrow(queries.lock_schedule, tenant_id, name)
    if row is None:
        raise rules.not_found(name)
    if row["held"]:
        raise Busy
    return row


async def _known(connection: Connection, request: Request | None) -> Answered | None:
    """Return the earlier call with the same request, if there was one."""
    if request is None:
        return None
    row = await connection.fetchrow(
        queries.find_schedule_request, request.tenant_id, request.request_id, REQUESTS_KEPT
    )
    if row is None:
        return None
    if row["digest"] != request.digest:
        raise rules.reused(request.request_id, row["schedule_id"])
    run = Run.from_json(orjson.loads(row["run"])) if row["run"] else None
    return Answered(row["schedule_id"], row["created_at"], run)


async def _enter(
    connection: Connection, schedule_id: UUID, request: Request | None
) -> Answered | None:
    """Remember a call, unless there was an earlier one with the same request: return that."""
    if request is None:
        return None
    await connection.execute(queries.forget_schedule_requests, REQUESTS_KEPT)
    entered = await connection.fetchval(
        queries.add_schedule_request,
        request.tenant_id,
        request.request_id,
        request.digest,
        schedule_id,
    )
    return None if entered else await _known(connection, request)


def _columns(config: Config) -> tuple[object, ...]:
    return (
        config.cron,
        config.time_zone,
        config.task,
        config.overlap,
        config.catch_up_window,
        config.max_catch_up,
        config.start_at,
        config.end_at,
        config.jitter,
    )


def _firings(firings: Sequence[tuple[Held, Schedule]]) -> tuple[Sequence[object], ...]:
    """Return the parameters of record_firings."""
    schedules = [schedule for _, schedule in firings]
    return (
        [schedule.schedule_id for schedule in schedules],
        [held.holder for held, _ in firings],
        [schedule.next_at for schedule in schedules],
        [schedule.due_at for schedule in schedules],
        [schedule.last_task_id for schedule in schedules],
        [schedule.buffered_at for schedule in schedules],
        [_json(schedule.recent) for schedule in schedules],
    )


def _json(runs: Sequence[Run]) -> str:
    return orjson.dumps([run.to_json() for run in runs]).decode()


def _held_of(row: asyncpg.Record) -> Held:
    return Held(
        _schedule_of(row),
        row["held_by"],
        running=row["running"],
        lost=row["lost"],
        now=row["now"],
    )


def _schedule_of(row: asyncpg.Record) -> Schedule:
    return Schedule(
        schedule_id=row["schedule_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        config=Config(
            cron=row["cron"],
            time_zone=row["time_zone"],
            task=row["task"],
            overlap=OverlapPolicy(row["overlap"]),
            catch_up_window=row["catch_up_window"],
            max_catch_up=row["max_catch_up"],
            start_at=row["start_at"],
            end_at=row["end_at"],
            jitter=row["jitter"],
        ),
        paused=row["paused"],
        note=row["note"],
        revision=row["revision"],
        next_at=row["next_at"],
        due_at=row["due_at"],
        last_task_id=row["last_task_id"],
        buffered_at=row["buffered_at"],
        recent=[Run.from_json(run) for run in orjson.loads(row["recent"])],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
