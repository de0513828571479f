"""BudgetStore and Vault on Postgres."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from router_svc.budgets import rules
from router_svc.budgets.ports import Edit, Want
from router_svc.budgets.records import (
    Account,
    AccountKey,
    Action,
    Alarm,
    Budget,
    Change,
    Config,
    Period,
    Scope,
    Split,
    Standing,
)
from stepwire.db import load_queries, retryable
from stepwire.errors import field_invalid
from stepwire.ids import uuid7

queries = load_queries("router_svc", "sql/budgets.sql")

FORGET_AFTER: Final = timedelta(days=1)
"""How long deletions and lost reservations are remembered."""
ACCOUNTS_KEPT: Final = timedelta(days=400)


class PostgresBudgetStore:
    """See `BudgetStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def add(self, tenant_id: str, name: str, config: Config, *, limit: int) -> Budget:
        """See `BudgetStore`."""
        async with self._pool.acquire() as connection, connection.transaction():
            version = await connection.fetchval(queries.next_version)
            row = await connection.fetchrow(queries.find_budget, tenant_id, name)
            if row is not None:
                return _budget_of(row)
            if await connection.fetchval(queries.count_budgets, tenant_id) >= limit:
                raise field_invalid("name", f"there are {limit} budgets already")
            scope = config.scope
            row = await connection.fetchrow(
                queries.add_budget,
                uuid7(),
                tenant_id,
                name,
                scope.project,
                scope.task_id,
                scope.model,
                config.period.value,
                config.split.value,
                config.limit_micro_usd,
                config.alarm_percents,
                config.shadow,
                config.on_exhausted.value,
                version,
            )
            assert row is not None
            return _budget_of(row)

    @retryable()
    async def find(self, tenant_id: str, name: str) -> tuple[Budget, Account | None] | None:
        """See `BudgetStore`."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(queries.find_budget, tenant_id, name)
            if row is None:
                return None
            budget = _budget_of(row)
            if budget.config.split is not Split.NONE:
                return budget, None
            account = await connection.fetchrow(queries.present_account, budget.budget_id)
            assert account is not None
            return budget, _account_of(account, budget)

    @retryable()
    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Budget]:
        """See `BudgetStore`."""
        rows = await self._pool.fetch(queries.list_budgets, tenant_id, after, limit)
        return [_budget_of(row) for row in rows]

    @retryable()
    async def change(self, tenant_id: str, name: str, edit: Edit) -> Budget:
        """See `BudgetStore`."""
        async with self._pool.acquire() as connection, connection.transaction():
            version = await connection.fetchval(queries.next_version)
            row = await connection.fetchrow(queries.find_budget, tenant_id, name)
            if row is None:
                raise rules.not_found(name)
            old = _budget_of(row)
            config = edit(old)
            if config == old.config:
                return old
            row = await connection.fetchrow(
                queries.change_budget,
                old.budget_id,
                config.limit_micro_usd,
                config.alarm_percents,
                config.shadow,
                config.on_exhausted.value,
                version,
            )
            assert row is not None
            return _budget_of(row)

    @retryable()
    async def delete(self, tenant_id: str, name: str, check: Callable[[Budget], None]) -> None:
        """See `BudgetStore`."""
        async with self._pool.acquire() as connection, connection.transaction():
            version = await connection.fetchval(queries.next_version)
            row = await connection.fetchrow(queries.find_budget, tenant_id, name)
            if row is None:
                raise rules.not_found(name)
            check(_budget_of(row))
            await connection.execute(queries.delete_budget, row["budget_id"], version)

    @retryable()
    async def accounts(
        self, budget: Budget, *, key: str, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Account]:
        """See `BudgetStore`."""
        period, last = after or (None, "")
        rows = await self._pool.fetch(
            queries.list_accounts, budget.budget_id, key, period, last, limit
        )
        return [_account_of(row, budget) for row in rows]

    @retryable()
    async def changes(self, *, after: int) -> Sequence[Change]:
        """See `BudgetStore`."""
        rows = await self._pool.fetch(queries.changed_budgets, after)
        return [
            Change(
                row["budget_id"],
                row["tenant_id"],
                row["version"],
                None if row["deleted_at"] else _budget_of(row),
            )
            for row in rows
        ]


class PostgresVault:
    """See `Vault`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def reserve(
        self, session_id: UUID, wants: Sequence[Want], accounts: Sequence[AccountKey]
    ) -> dict[AccountKey, Standing]:
        """See `Vault`."""
        places = {account: place for place, account in enumerate(accounts, start=1)}
        pairs = [
            (call, places[account])
            for call, want in enumerate(wants, start=1)
            for account in want.accounts
        ]
        rows = await self._pool.fetch(
            queries.reserve,
            session_id,
            [want.reservation_id for want in wants],
            [want.amount_micro_usd for want in wants],
            [want.patient for want in wants],
            [budget_id for budget_id, _ in accounts],
            [key for _, key in accounts],
            [call for call, _ in pairs],
            [account for _, account in pairs],
        )
        return {
            accounts[row["account"] - 1]: Standing(
                limit=row["limit_micro_usd"],
                left=row["left_micro_usd"],
                ends_at=row["period_end"],
                refused=tuple(call - 1 for call in row["refused"]),
            )
            for row in rows
        }

    @retryable()
    async def renew(self, session_id: UUID, *, lease: timedelta) -> None:
        """See `Vault`."""
        await self._pool.execute(queries.renew_session, session_id, lease)

    @retryable()
    async def end(self, session_id: UUID) -> None:
        """See `Vault`."""
        await self._pool.execute(queries.end_session, session_id)

    @retryable()
    async def expire(self, *, limit: int) -> tuple[int, Sequence[Alarm]]:
        """See `Vault`."""
        rows = await self._pool.fetch(queries.expire, limit)
        # The last row has the number of reservations.
        return rows[-1]["spent_micro_usd"], alarms_of(rows[:-1])

    @retryable()
    async def purge(self) -> None:
        """See `Vault`."""
        for query in (queries.purge_reservations, queries.purge_sessions, queries.purge_budgets):
            await self._pool.execute(query, FORGET_AFTER)
        await self._pool.execute(queries.purge_accounts, ACCOUNTS_KEPT)


def alarms_of(rows: Sequence[asyncpg.Record]) -> list[Alarm]:
    """Returns the alarms that a statement has raised."""
    return [
        Alarm(
            row["budget_id"],
            row["key"],
            row["percent"],
            row["spent_micro_usd"],
            row["limit_micro_usd"],
        )
        for row in rows
    ]


def _budget_of(row: asyncpg.Record) -> Budget:
    return Budget(
        budget_id=row["budget_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        config=Config(
            scope=Scope(row["project"], row["task_id"], row["model"]),
            period=Period(row["period"]),
            split=Split(row["split"]),
            limit_micro_usd=row["limit_micro_usd"],
            alarm_percents=tuple(row["alarm_percents"]),
            shadow=row["shadow"],
            on_exhausted=Action(row["on_exhausted"]),
        ),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _account_of(row: asyncpg.Record, budget: Budget) -> Account:
    known: dict[str, Any] = {name: value or 0 for name, value in row.items()}
    ever = budget.config.period is Period.TOTAL
    limit = budget.config.limit_micro_usd
    return Account(
        key=row["key"] or "",
        period_start=None if ever else row["period_start"],
        period_end=row["period_end"],
        spent=known["spent_micro_usd"],
        reserved=known["reserved_micro_usd"],
        left=limit - known["spent_micro_usd"] - known["reserved_micro_usd"],
        refusals=known["refusals"],
        # Alarms of an earlier limit say nothing of this one.
        alarmed_percent=known["alarmed_percent"] if known["alarmed_limit"] == limit else 0,
        lost=known["lost_micro_usd"],
    )
