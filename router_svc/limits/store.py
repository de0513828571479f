"""RateStore and SlotStore on Postgres."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from router_svc.limits.ports import Ask, Back, Claim, Given, Grant, Sign, Silence
from router_svc.limits.window import WINDOW_SECONDS
from stepwire.db import load_queries, retryable

queries = load_queries("router_svc", "sql/rates.sql")
_slots = load_queries("router_svc", "sql/slots.sql")

SLOTS_CHANNEL: Final = "stepwire_router_slots"
"""Where instances are told what others want, and what is free; see `hold_slots_v1`."""


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


class PostgresSlots:
    """See `SlotStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    # Not tried again: whoever asks comes again, with what holds by then.
    @retryable(attempts=1)
    async def hold(
        self, session_id: UUID, beat: int, claims: Sequence[Claim]
    ) -> Mapping[str, Grant]:
        """See `SlotStore`."""
        rows = await self._pool.fetch(
            _slots.hold_slots,
            session_id,
            beat,
            [claim.model for claim in claims],
            [claim.held for claim in claims],
            [claim.wanted for claim in claims],
            [claim.most for claim in claims],
            [claim.keeps_seconds for claim in claims],
        )
        return {row["model"]: Grant(**row) for row in rows}

    @retryable(attempts=1)
    async def others(self, session_id: UUID) -> Sequence[Sign]:
        """See `SlotStore`."""
        return [Sign(**row) for row in await self._pool.fetch(_slots.others, session_id)]

    @retryable(attempts=1)
    async def free(self, silences: Sequence[Silence]) -> Mapping[str, int]:
        """See `SlotStore`."""
        rows = await self._pool.fetch(
            _slots.free_slots,
            [each.session_id for each in silences],
            [each.beat for each in silences],
            [each.seconds for each in silences],
        )
        freed: Counter[str] = Counter()
        for row in rows:
            freed[row["model"]] += row["held"]
        return freed
