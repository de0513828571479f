"""BreakerStore on Postgres."""

from collections.abc import Sequence

import asyncpg

from router_svc.breakers.ports import SharedBreaker
from router_svc.breakers.records import BreakerKey, Cause
from router_svc.generate.failures import FailureKind
from stepwire.db import load_queries

queries = load_queries("router_svc", "sql/breakers.sql")


class PostgresBreakerStore:
    """See `BreakerStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def put(self, breaker: SharedBreaker, *, by_hand: bool) -> int:
        """See `BreakerStore`."""
        version = await self._pool.fetchval(
            queries.put_breaker,
            str(breaker.key),
            breaker.is_open,
            breaker.seconds_left if breaker.is_open else None,
            breaker.cause.kind.value,
            breaker.cause.message,
            breaker.cause.status,
            breaker.openings,
            breaker.forced,
            by_hand,
        )
        return int(version or 0)

    async def read(self) -> Sequence[SharedBreaker]:
        """See `BreakerStore`."""
        rows = await self._pool.fetch(queries.read_breakers)
        return [shared for row in rows if (shared := _read(row)) is not None]

    async def forget(self, *, older_than_seconds: float) -> None:
        """See `BreakerStore`."""
        await self._pool.execute(queries.forget_breakers, older_than_seconds)


def _read(row: asyncpg.Record) -> SharedBreaker | None:
    key = BreakerKey.parse(row["name"])
    kinds = {kind.value: kind for kind in FailureKind}
    # A newer version's words: what cannot be understood is not acted upon.
    if key is None or row["cause"] not in kinds:
        return None
    return SharedBreaker(
        key=key,
        version=row["version"],
        is_open=row["is_open"],
        seconds_left=row["seconds_left"],
        cause=Cause(kinds[row["cause"]], row["message"], row["status"]),
        openings=row["openings"],
        forced=row["forced"],
    )
