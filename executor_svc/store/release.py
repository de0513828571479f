"""ReleaseStore on Postgres."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import asyncpg

from executor_svc.engine.records import StepRef
from executor_svc.store.limits import queries
from executor_svc.store.rows import ref_of


class PostgresReleaseStore:
    """See `executor_svc.waking.releaser.ReleaseStore`."""

    def __init__(self, pool: asyncpg.Pool, *, republish_after: timedelta) -> None:
        self._pool = pool
        self._republish_after = republish_after

    async def unpublished_queues(self) -> Mapping[str, bool]:
        rows = await self._pool.fetch(queries.unpublished_queues)
        return {row["queue"]: row["paused"] for row in rows}

    async def release(self, queue: str, *, room: int) -> Sequence[StepRef]:
        rows = await self._pool.fetch(queries.release, self._republish_after, queue, room)
        return [ref_of(row) for row in rows]

    async def overdue_queues(self, queues: Collection[str]) -> Sequence[str]:
        rows = await self._pool.fetch(queries.overdue_queues, list(queues))
        return [row["queue"] for row in rows]
