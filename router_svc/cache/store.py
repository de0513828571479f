"""AnswerStore on Postgres."""

import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import orjson

from router_svc.cache.codec import decode_kept, encode_kept
from router_svc.cache.ports import Keeping
from router_svc.cache.records import Holding, Invalidation, Kept, ModelShare, Selection
from stepwire.db import load_queries, retryable

queries = load_queries("router_svc", "sql/answers.sql")

MAX_INVALIDATIONS: Final = 1_000
"""Read at a time."""
MAX_MODELS: Final = 100
"""Of those that `holding` returns."""
# An invalidation matters as long as an answer that was begun before it may be kept.
_LONGEST_CALL_SECONDS: Final = 3_600.0


class PostgresAnswerStore:
    """See `AnswerStore`. Ages travel, not times: clocks may differ."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    # The caller goes on without the cache rather than wait for a second try.
    @retryable(attempts=1)
    async def find(self, keys: Sequence[bytes], *, tenant_id: str) -> Sequence[Kept]:
        rows = await self._pool.fetch(queries.find_answers, keys, tenant_id)
        now = time.time()
        found = [
            decode_kept(
                row["answer"],
                key=row["key"],
                tenant_id=tenant_id,
                kept_at=now - row["age_seconds"],
            )
            for row in rows
        ]
        return [kept for kept in found if kept is not None]

    @retryable()
    async def keep(self, answers: Sequence[Keeping], *, ttl_seconds: float) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(queries.lock_shared)
            await connection.execute(queries.keep_answers, *_columns(answers), ttl_seconds)

    @retryable()
    async def invalidate(self, selection: Selection) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(queries.lock)
            gone = await connection.execute(queries.invalidate_answers, *_conditions(selection))
            await connection.execute(queries.add_invalidation, *_conditions(selection))
            return int(gone.split()[-1])

    @retryable()
    async def count(self, selection: Selection) -> int:
        count: int = await self._pool.fetchval(queries.count_answers, *_conditions(selection))
        return count

    @retryable()
    async def holding(self, tenant_id: str) -> Holding:
        rows = await self._pool.fetch(queries.holding, tenant_id, MAX_MODELS)
        shares = tuple(
            ModelShare(row["model"], row["model_version"], row["answers"], row["size_bytes"])
            for row in rows
        )
        ages = [row["oldest_seconds"] for row in rows]
        return Holding(shares, time.time() - max(ages) if ages else None)

    @retryable()
    async def invalidations(self, *, after: int) -> Sequence[Invalidation]:
        rows = await self._pool.fetch(queries.invalidations_after, after, MAX_INVALIDATIONS)
        return [_invalidation(row) for row in rows]

    @retryable()
    async def newest_invalidations(self, most: int) -> Sequence[Invalidation]:
        rows = await self._pool.fetch(queries.newest_invalidations, most)
        return [_invalidation(row) for row in reversed(rows)]

    @retryable()
    async def purge(self, *, most: int, ttl_seconds: float, limit: int) -> int:
        expired = await self._pool.execute(queries.purge_expired, limit)
        oldest = await self._pool.execute(queries.purge_oldest, most, limit)
        await self._pool.execute(queries.purge_invalidations, ttl_seconds + _LONGEST_CALL_SECONDS)
        return int(expired.split()[-1]) + int(oldest.split()[-1])


def _columns(answers: Sequence[Keeping]) -> tuple[Any, ...]:
    kept, now = [each.kept for each in answers], time.time()
    return (
        [each.key for each in kept],
        [each.tenant_id for each in kept],
        [each.model for each in kept],
        [each.model_version for each in kept],
        [orjson.dumps(each.tags).decode() for each in kept],
        [encode_kept(each) for each in kept],
        [max(0.0, now - each.kept_at) for each in kept],
        [each.seen for each in answers],
    )


def _conditions(selection: Selection) -> tuple[Any, ...]:
    return (
        selection.tenant_id,
        selection.tag,
        selection.model,
        selection.model_version,
        selection.older_than_seconds,
    )


def _invalidation(row: asyncpg.Record) -> Invalidation:
    age = row["age_seconds"]
    return Invalidation(
        number=row["number"],
        selection=Selection(row["tenant_id"], row["tag"], row["model"], row["model_version"], age),
        kept_until=None if age is None else time.time() - age,
        mark=str(row["mark"]),
    )
