"""Rates over instances that share a Postgres, and models that give way at their limit."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from opentelemetry.metrics import NoOpMeter

from router_svc.generate.failures import ProviderFailure
from router_svc.generate.ports import Lease
from router_svc.generate.records import Caller
from router_svc.limits.limiter import RateLimits
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.ports import Ask, Back, RateStore
from router_svc.limits.store import PostgresRates
from router_svc.limits.window import WINDOW_SECONDS, MemoryRates
from stepwire.db import migrate, open_pool
from stepwire.testing.fleet import running_fleet
from tests.integration.router_svc.running_router import DEAR, ask, chat_model, running_router
from tests.unit.router_svc.router_builders import a_model

CALLER = Caller("ours")
LIMIT = 40


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database_url, application_name="test") as opened:
        await migrate(opened, package="router_svc", schema="router")
        yield opened


async def lease(limits: RateLimits, name: str) -> Lease | None:
    model = a_model(name, limits={"requests_per_minute": LIMIT, "tokens_per_minute": 10 * LIMIT})
    try:
        return await limits.lease(CALLER, model, tokens=10)
    except ProviderFailure:
        return None


async def test_two_instances_keep_to_one_rate(pool: asyncpg.Pool) -> None:
    instances = [
        RateLimits(PostgresRates(pool), LimitMetrics(NoOpMeter("test")), time.monotonic)
        for _ in range(2)
    ]
    calls = [lease(instances[number % 2], "small") for number in range(3 * LIMIT)]
    # Another model has rates of its own.
    *leases, other = await asyncio.gather(*calls, lease(instances[0], "other"))
    assert other is not None
    given = [each for each in leases if each is not None]
    assert len(given) <= LIMIT
    # What each has taken ahead is used by both, or put back.
    for limits in instances:
        await limits.tidy(everything=True)
    used = await pool.fetchval(
        "SELECT sum(given) FROM router.rate_seconds WHERE name = 'small/requests'"
    )
    assert used == len(given)


async def test_who_takes_at_once_gets_the_limit_together(pool: asyncpg.Pool) -> None:
    store = PostgresRates(pool)
    for number in range(5):
        ask_ = Ask(f"rate{number}", LIMIT, wanted=LIMIT // 4, least=1)
        given = await asyncio.gather(*(store.take([ask_], []) for _ in range(8)))
        assert sum(each[ask_.name].units for each in given) == LIMIT


async def test_it_gives_as_the_memory_does(pool: asyncpg.Pool) -> None:
    now = 0.0
    stores: list[RateStore] = [PostgresRates(pool), MemoryRates(lambda: now)]
    for wanted, least, back, units, waits in [
        (30, 1, 0, 30, False),
        (30, 1, 0, 10, False),
        (5, 1, 0, 0, True),
        (5, 1, 3, 3, False),
        (9, 5, 4, 0, True),
        (9, 4, 0, 4, False),
    ]:
        for store in stores:
            second = (await store.take([Ask("rate", LIMIT, 0, 0)], []))["rate"].second
            returned = [Back("rate", second, back)] if back else []
            given = (await store.take([Ask("rate", LIMIT, wanted, least)], returned))["rate"]
            assert given.units == units
            assert (0 < given.wait_seconds <= WINDOW_SECONDS) is waits
    # A minute later, and the time for which what was given may be kept.
    now += WINDOW_SECONDS
    await pool.execute("UPDATE router.rate_seconds SET second = second - $1", WINDOW_SECONDS)
    for store in stores:
        assert (await store.take([Ask("rate", LIMIT, 99, 1)], []))["rate"].units == LIMIT


async def test_a_model_at_its_limit_gives_way_to_the_next(tmp_path: Path) -> None:
    async with running_fleet("east", "west") as fleet:
        models = [chat_model(name, fleet[name].base_url) for name in ("east", "west")]
        for model in models:
            model["provider"]["model"] = "small"
        models[0]["limits"] = {"requests_per_minute": 2}
        models[1]["prices"] = [DEAR]
        async with running_router(tmp_path, *models) as stub:
            answers = [await stub.Generate(ask()) for _ in range(4)]
    assert [each.model for each in answers] == ["east", "east", "west", "west"]
    (tried,) = answers[2].attempts
    assert (tried.model, tried.kind, tried.called) == ("east", "rate_limited", False)
    assert "its limit of 2 requests per minute" in tried.message
    # By now the decision knows.
    assert not answers[3].attempts
    assert "its limit of 2 requests per minute" in answers[3].decision.candidates[1].resting
