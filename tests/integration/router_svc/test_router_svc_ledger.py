"""What is held and used reaches the record: for callers that go, and while the database is away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from opentelemetry.metrics import NoOpMeter

from router_svc.budgets.keeper import BudgetKeeper
from router_svc.budgets.knowledge import Knowledge
from router_svc.budgets.metrics import BudgetMetrics
from router_svc.budgets.records import Account, Alarm, Budget, Config, Period
from router_svc.budgets.store import PostgresBudgetStore, PostgresVault
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Caller
from router_svc.usage import ledger as ledger_module
from router_svc.usage.ledger import Ledger
from router_svc.usage.metrics import UsageMetrics
from router_svc.usage.records import Charge
from router_svc.usage.store import PostgresUsageStore
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.test_router_svc_vault import LEASE, MODEL, used

METER = NoOpMeter("test")


class Moody(PostgresUsageStore):
    """A record that is away for some writes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.away = 0

    async def write(self, charges: Sequence[Charge]) -> Sequence[Alarm]:
        if self.away:
            self.away -= 1
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "away")
        return await super().write(charges)


class Desk:
    """A keeper and its ledger, as a tenant of its own."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.caller = Caller(f"tenant-{uuid7().hex}", "atlas")
        self.budgets = PostgresBudgetStore(pool)
        self.store = Moody(pool)
        self.knowledge = Knowledge(time.monotonic)
        self.ledger = Ledger(self.store, UsageMetrics(METER), lambda alarms: None)
        metrics = BudgetMetrics(METER, self.knowledge.unsplit)
        self.session_id = uuid7()
        self.keeper = BudgetKeeper(
            PostgresVault(pool), self.ledger, self.knowledge, metrics, session_id=self.session_id
        )

    async def budget(self, limit: int, **config: Any) -> Budget:
        await PostgresVault(self.pool).renew(self.session_id, lease=LEASE)
        wanted = Config(period=Period.MONTH, limit_micro_usd=limit, **config)
        budget = await self.budgets.add(self.caller.tenant_id, "all", wanted, limit=9)
        self.knowledge.learn(await self.budgets.changes(after=0))
        return budget

    async def reserve(self, worst: int) -> Any:
        return await self.keeper.reserve(self.caller, MODEL, worst_micro_usd=worst)

    async def account(self) -> Account:
        found = await self.budgets.find(self.caller.tenant_id, "all")
        assert found is not None
        assert found[1] is not None
        return found[1]

    async def written(self) -> int:
        count: int = await self.pool.fetchval(
            "SELECT count(*) FROM router.usage WHERE tenant_id = $1", self.caller.tenant_id
        )
        return count


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    with fresh_database(postgres) as url:
        async with open_pool(url, application_name="test", max_size=4) as opened:
            await migrate(opened, package="router_svc", schema="router")
            yield opened


@pytest.fixture
def desk(pool: asyncpg.Pool) -> Desk:
    return Desk(pool)


async def test_what_is_held_for_a_caller_that_goes_is_given_back(desk: Desk) -> None:
    await desk.budget(100)
    for ticks in range(6):
        calling = asyncio.create_task(desk.reserve(60))
        for _ in range(ticks):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    async def nothing_is_held() -> bool:
        return (await desk.account()).reserved == 0

    await eventually(nothing_is_held)
    await desk.reserve(100)


async def test_a_call_waits_for_what_is_just_being_settled(desk: Desk) -> None:
    await desk.budget(100)
    for _ in range(10):
        held = await desk.reserve(100)
        held.settle(used(0, caller=desk.caller))
    assert (await desk.account()).refusals == 0


async def test_what_is_too_dear_is_told_with_what_is_left(desk: Desk) -> None:
    await desk.budget(100)
    await desk.reserve(60)
    with pytest.raises(ProviderFailure) as caught:
        await desk.reserve(41)
    assert (caught.value.kind, caught.value.called) == (FailureKind.OVER_BUDGET, False)
    over = caught.value.over
    assert over is not None
    assert over.metadata["left_micro_usd"] == "40"
    assert "$0.000041" in over.message
    assert (await desk.account()).refusals == 1


async def test_a_provider_that_charges_too_much_is_told(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.budget(100)
    held = await desk.reserve(60)
    with caplog.at_level(logging.WARNING):
        held.settle(used(10**18, caller=desk.caller))
    await desk.ledger.drain()
    assert "a call cost more than was held for it" in caplog.messages
    # No more than the largest budget, whatever it says.
    assert (await desk.account()).spent == 10**15


async def test_nothing_is_lost_while_the_record_is_away(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "RETRY_SECONDS", 0.0)
    await desk.budget(100)
    held = await desk.reserve(60)
    desk.store.away = 3
    held.settle(used(7, caller=desk.caller))
    for _ in range(5):
        desk.ledger.record(used(0, caller=desk.caller, cached=True))
    await desk.ledger.drain()
    assert desk.store.away == 0
    assert await desk.written() == 6
    assert (await desk.account()).spent == 7


async def test_what_the_record_cannot_hold_keeps_nothing_else_out(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.budget(100)
    held = await desk.reserve(60)
    held.settle(used(7, caller=Caller(desk.caller.tenant_id, "\0")))
    desk.ledger.record(used(0, caller=desk.caller))
    await desk.ledger.drain()
    assert "usage is lost" in caplog.messages
    assert await desk.written() == 2
    account = await desk.account()
    assert (account.spent, account.reserved) == (7, 0)


async def test_what_does_not_fit_into_memory_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_WAITING", 2)
    ledger = Ledger(desk.store, UsageMetrics(METER), lambda alarms: None)
    for _ in range(4):
        ledger.record(used(0, caller=desk.caller))
    await ledger.drain()
    assert caplog.messages.count("usage is lost") == 2
    assert await desk.written() == 2
