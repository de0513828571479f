"""SessionStore on Postgres, over one connection of its own."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from executor_svc.engine.ports import Renewal, WorkerProfile
from stepwire.db import load_queries, retryable

queries = load_queries("executor_svc", "sql/queues.sql")


class PostgresSessionStore:
    """See `executor_svc.engine.ports.SessionStore`.

    It takes a pool that nobody else uses, so that a lease is renewed however busy the
    worker's other connections are.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def open(
        self,
        session_id: UUID,
        profile: WorkerProfile,
        *,
        lease: timedelta,
        busy: int,
        draining: bool,
    ) -> None:
        await self._pool.execute(
            queries.open_session,
            session_id,
            lease,
            profile.name,
            list(profile.queues),
            profile.slots,
            busy,
            profile.version,
            draining,
        )

    async def renew(self, session_id: UUID, *, lease: timedelta, busy: int) -> Renewal | None:
        draining = await self._pool.fetchval(queries.renew_session, session_id, lease, busy)
        return None if draining is None else Renewal(draining)

    async def close(self, session_id: UUID) -> None:
        await self._pool.execute(queries.close_session, session_id)
