"""RateStore on Postgres."""

from collections.abc import Mapping, Sequence

import asyncpg

from router_svc.limits.ports import Ask, Back, Given
from router_svc.limits.window import WINDOW_SECONDS
from stepwire.db import load_queries, retryable

queries = load_queries("router_svc", "sql/rates.sql")


class PostgresRates:
    """See `RateStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    # Not tried again: what was given twice would be lost to all, and callers wait.
    @retryable(attempts=1)
    async def take(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        """See `RateStore`."""
        rows = await self._pool.fetch(
            queries.take_rates,
            [ask.name for ask in asks],
            [ask.limit for ask in asks],
            [ask.wanted for ask in asks],
            [ask.least for ask in asks],
            WINDOW_SECONDS,
            [each.name for each in back],
            [each.second for each in back],
            [each.units for each in back],
        )
        return {
            row["name"]: Given(row["given"], row["second"], row["wait_seconds"]) for row in rows
        }
