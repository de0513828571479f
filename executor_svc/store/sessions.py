"""SessionStore on Postgres, over one connection of its own."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from executor_svc.store.rows import queries


class PostgresSessionStore:
    """See `executor_svc.ports.SessionStore`.

    It takes a pool that nobody else uses, so that a lease is renewed however busy the
    worker's other connections are.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def open(self, session_id: UUID, *, worker: str, lease: timedelta) -> None:
        await self._pool.execute(queries.open_session, session_id, worker, lease)

    async def renew(self, session_id: UUID, *, lease: timedelta) -> bool:
        return await self._pool.fetchval(queries.renew_session, session_id, lease) is not None

    async def close(self, session_id: UUID) -> None:
        await self._pool.execute(queries.close_session, session_id)
