"""LimitStore on Postgres."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from executor_svc.engine.ports import Effects, Want
from executor_svc.store.rows import effects_of
from executor_svc.waking.limits import LimitKey
from stepwire.db import load_queries, retryable

queries = load_queries("executor_svc", "sql/limits.sql")


class PostgresLimitStore:
    """See `executor_svc.engine.ports.LimitStore` and `executor_svc.waking.limits.WaitingLimits`.

    Each call gives at most `batch` places under a limit, and finds at most as many limits.
    """

    def __init__(self, pool: asyncpg.Pool, *, republish_after: timedelta, batch: int = 500) -> None:
        self._pool = pool
        self._republish_after = republish_after
        self._batch = batch

    # An attempt that has its place already is granted again; one that has begun to wait is
    # no longer the session's. Both may thus be asked for twice, after a lost answer.

    @retryable()
    async def acquire(
        self, session_id: UUID, wants: Sequence[Want]
    ) -> tuple[Sequence[bool], Effects]:
        attempts = [want.attempt for want in wants]
        facts = await self._pool.fetch(
            queries.acquire,
            session_id,
            [attempt.task.task_id for attempt in attempts],
            [attempt.step_id for attempt in attempts],
            [attempt.attempt for attempt in attempts],
            [attempt.task.tenant_id for attempt in attempts],
            [want.key for want in wants],
            [want.max_running for want in wants],
            [want.max_starts for want in wants],
            [want.period for want in wants],
        )
        accepted = {
            place for fact in facts if fact["kind"] == "ACCEPTED" for place in fact["accepted"]
        }
        return [place in accepted for place in range(1, len(wants) + 1)], effects_of(facts)

    @retryable()
    async def admit(self, limits: Sequence[LimitKey]) -> Effects:
        facts = await self._pool.fetch(
            queries.admit,
            self._republish_after,
            [tenant_id for tenant_id, _ in limits],
            [key for _, key in limits],
            self._batch,
        )
        return effects_of(facts)

    async def due(self) -> Sequence[LimitKey]:
        return [tuple(row) for row in await self._pool.fetch(queries.due_limits, self._batch)]

    async def waiting(self, after: LimitKey) -> Sequence[LimitKey]:
        rows = await self._pool.fetch(queries.waiting_limits, *after, self._batch)
        return [tuple(row) for row in rows]

    async def next_due(self) -> datetime | None:
        due: datetime | None = await self._pool.fetchval(queries.next_due_limit)
        return due

    async def tidy(self) -> Effects:
        return effects_of(await self._pool.fetch(queries.tidy_limits, self._batch))
