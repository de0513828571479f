"""NoticeStore on Postgres."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import orjson

from executor_svc.waking.relay import HANDLER_SECONDS, Notice, Work
from stepwire.db import load_queries
from stepwire.failpoints import failpoint

queries = load_queries("executor_svc", "sql/notices.sql")

PATIENCE_SECONDS = 2 * HANDLER_SECONDS


class PostgresNoticeStore:
    """See `executor_svc.waking.relay.NoticeStore`.

    The rows are locked by a transaction that lasts as long as the work: when the process
    dies, they are free at once.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def carry_out(self, kinds: Sequence[str], *, limit: int, work: Work) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            # Its locks are on notices alone, which others pass over.
            await connection.execute(queries.be_patient, f"{PATIENCE_SECONDS}s")
            rows = await connection.fetch(queries.take_notices, kinds, limit)
            if not rows:
                return 0
            await failpoint("relay.taken")
            postponed = await work([_notice_of(row) for row in rows])
            await failpoint("relay.done")
            kept = {each.notice.notice_id for each in postponed}
            await connection.execute(
                queries.finish_notices,
                [row["notice_id"] for row in rows if row["notice_id"] not in kept],
                [each.notice.notice_id for each in postponed],
                [each.by for each in postponed],
                [int(each.tried) for each in postponed],
            )
            return len(rows)

    async def until_due(self, kinds: Sequence[str]) -> timedelta | None:
        wait: timedelta | None = await self._pool.fetchval(queries.until_notice_due, kinds)
        return wait


def _notice_of(row: asyncpg.Record) -> Notice:
    return Notice(
        notice_id=row["notice_id"],
        kind=row["kind"],
        tenant_id=row["tenant_id"],
        task_id=row["task_id"],
        payload=orjson.loads(row["payload"]),
        created_at=row["created_at"],
        attempts=row["attempts"],
    )
