"""SweepStore on Postgres."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import asyncpg

from executor_svc.engine.ports import Effects
from executor_svc.store.rows import effects_of, queries, ref_of


class PostgresSweepStore:
    """See `executor_svc.engine.ports.SweepStore`; each call takes at most `batch` rows."""

    def __init__(
        self, pool: asyncpg.Pool, *, republish_after: timedelta, batch: int = 1000
    ) -> None:
        self._pool = pool
        self._republish_after = republish_after
        self._batch = batch

    async def lose_orphans(self) -> Effects:
        return await self._sweep(queries.lose_orphans)

    async def wake_due(self) -> Effects:
        return await self._sweep(queries.wake_due)

    async def expire_tasks(self) -> Effects:
        return await self._sweep(queries.expire_tasks)

    async def _sweep(self, query: str) -> Effects:
        return effects_of(await self._pool.fetch(query, self._republish_after, self._batch))

    async def republish(self, patience: Mapping[str, timedelta]) -> Effects:
        rows = await self._pool.fetch(
            queries.republish,
            self._republish_after,
            list(patience),
            list(patience.values()),
            self._batch,
        )
        return Effects(ready=[ref_of(row) for row in rows])

    async def next_due(self) -> datetime | None:
        due: datetime | None = await self._pool.fetchval(queries.next_due)
        return due
