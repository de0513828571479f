"""UsageStore on Postgres."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import asyncpg

from router_svc.budgets.records import Alarm
from router_svc.budgets.rules import MAX_LIMIT_MICRO_USD
from router_svc.budgets.store import alarms_of
from router_svc.generate.records import UsageEntry
from router_svc.usage.records import TIMES, Charge, Group, Question, UsageSum
from stepwire.db import load_queries, retryable

queries = load_queries("router_svc", "sql/usage.sql")

HOURS_KEPT: Final = timedelta(days=800)
_COLUMNS: Final = attrgetter(
    *("caller.tenant_id", "caller.project", "caller.task_id", "caller.step_id"),
    *("caller.request_id", "decision.decision_id", "model.name", "endpoint", "outcome"),
    *("cached", "usage.estimated", "usage.input_tokens", "usage.output_tokens"),
    *("usage.cached_input_tokens", "usage.reasoning_tokens"),
)
_COUNT: Final = 19


class PostgresUsageStore:
    """See `UsageStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def write(self, charges: Sequence[Charge]) -> Sequence[Alarm]:
        """See `UsageStore`."""
        held = [each for each in charges if each.reservation_id is not None]
        rows = [_row(each.usage_id, each.entry) for each in charges if each.entry is not None]
        columns = list(zip(*rows, strict=True)) or [()] * _COUNT
        found = await self._pool.fetch(
            queries.write_usage,
            [each.reservation_id for each in held],
            [0 if each.entry is None else _cost(each.entry) for each in held],
            *columns,
        )
        return alarms_of(found)

    @retryable()
    async def sums(self, question: Question) -> Sequence[UsageSum]:
        """See `UsageStore`."""
        groups = question.groups
        values: list[Any] = [
            question.tenant_id,
            question.start,
            question.end,
            question.project,
            question.model,
            Group.PROJECT in groups,
            Group.MODEL in groups,
            next((time.value for time in TIMES if time in groups), ""),
            question.skip,
            question.limit,
        ]
        query = queries.sum_hours
        if question.about_tasks:
            query = queries.sum_tries
            values += [question.task_id, Group.TASK in groups, Group.STEP in groups]
        return [UsageSum(**row) for row in await self._pool.fetch(query, *values)]

    @retryable()
    async def purge(self, *, tries: timedelta, limit: int) -> int:
        """See `UsageStore`."""
        first = UUID(int=int((datetime.now(UTC) - tries).timestamp() * 1000) << 80)
        gone = await self._pool.execute(queries.purge_usage, first, limit)
        await self._pool.execute(queries.purge_hours, HOURS_KEPT)
        return int(gone.split()[-1])


def _row(usage_id: UUID, entry: UsageEntry) -> tuple[Any, ...]:
    return (
        usage_id,
        *_COLUMNS(entry),
        _cost(entry),
        entry.seconds,
        entry.first_token_seconds,
    )


def _cost(entry: UsageEntry) -> int:
    # Whatever a provider claims: one call costs no more than the largest budget.
    return min(entry.cost_micro_usd, MAX_LIMIT_MICRO_USD)
