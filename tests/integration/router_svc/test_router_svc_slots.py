"""Of no model are more calls under way than its concurrency, from all instances together."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from router_svc.generate.failures import FailureKind
from router_svc.limits import sharing
from router_svc.limits.metrics import SlotMetrics
from router_svc.limits.slots import TURN_SECONDS
from stepwire.db import migrate, open_pool
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.slots_world import KEPT, LEASE, LIMIT, TIMEOUT, Way, World, live

SEEDS = 60


@pytest.fixture(scope="module")
async def record(postgres: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    with fresh_database(postgres) as url:
        async with open_pool(url, application_name="test") as pool:
            await migrate(pool, package="router_svc", schema="router")
            yield pool


@pytest.fixture
async def pool(record: asyncpg.Pool) -> asyncpg.Pool:
    await record.execute("TRUNCATE router.slots")
    return record


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_never_more_calls_at_once_than_the_limit(pool: asyncpg.Pool, seed: int) -> None:
    random = Random(seed)
    world = World(pool, instances=random.choice([2, 3]))
    async for _ in live(world, random):
        assert world.under_way <= LIMIT
    assert world.most_under_way <= LIMIT
    # When all is well again, nothing is lost: one instance can have all of it in the end.
    last = world.instances[0]
    for each in world.instances[1:]:
        await each.die()
    last.way = last.slots._store = Way(pool)
    await last.wake()
    for call in list(last.calls):
        await last.end(call)
    while last.waiting:
        await last.give_up()
    await last.look()
    await world.pass_time(KEPT)
    await last.look()
    for _ in range(LIMIT):
        await last.begin()
    # By the first it learns that others have taken it for dead, if they have.
    await last.beat()
    await last.beat()
    assert len(last.calls) == LIMIT


async def test_idle_slots_go_to_who_wants_them(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=2)
    first, second = world.instances
    for _ in range(LIMIT):
        await first.begin()
    await first.beat()
    assert len(first.calls) == LIMIT
    # One call after another needs no round trip.
    asked = first.way.times
    for _ in range(20):
        await first.end_one()
        await first.begin()
    assert (len(first.calls), first.way.times) == (LIMIT, asked)
    await second.begin()
    await second.beat()
    await first.end_one()
    await first.end_one()
    # It hears of it at once, or at its next sign of life.
    await first.beat()
    await first.beat()
    await second.beat()
    assert (len(second.calls), first.held, second.held) == (1, 1, 1)


async def test_what_is_not_used_for_a_while_is_given_up(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=1)
    [only] = world.instances
    await only.begin()
    await only.beat()
    await only.end_one()
    for _ in range(2):
        assert only.held == 1
        await world.pass_time(LEASE / 4)
        await only.beat()
    await world.pass_time(LEASE / 4)
    await only.beat()
    assert only.held == 0
    assert await pool.fetchval("SELECT count(*) FROM router.slots") == 0
    # Who holds and wants nothing asks nothing.
    asked = only.way.times
    await world.pass_time(LEASE)
    await only.beat()
    assert only.way.times == asked


async def test_one_slot_goes_round_among_instances(pool: asyncpg.Pool) -> None:
    world = World(pool, most=1)
    served = [0, 0, 0]
    for each in world.instances:
        for _ in range(100):
            await each.begin()
    for _ in range(60):
        for number, each in enumerate(world.instances):
            await each.beat()
            if each.calls:
                await each.end_one()
                served[number] += 1
        assert world.under_way <= 1
        await world.pass_time(TURN_SECONDS / 2)
    assert min(served) >= max(served) / 2 > 5


async def test_many_slots_are_shared_out_and_then_stay(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=2, most=10)
    first, second = world.instances
    for _ in range(30):
        await first.begin()
    await first.beat()
    assert first.held == 10
    for _ in range(30):
        await second.begin()
    for _ in range(4):
        for each in world.instances:
            await each.beat()
            for _ in range(len(each.calls)):
                await each.end_one()
                await each.begin()
        await world.pass_time(TURN_SECONDS)
    assert (first.held, second.held) == (5, 5)
    assert (len(first.calls), len(second.calls)) == (5, 5)


async def each_beats(world: World, *, begun: int, times: int = 1) -> None:
    for _ in range(times):
        for each in world.instances:
            for _ in range(begun):
                await each.begin()
            await each.beat()


async def test_the_lowest_limit_that_anybody_knows_counts(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=2, most=6)
    first, second = world.instances
    await each_beats(world, begun=3)
    assert world.under_way == 6
    first.limit_to(2)
    await each_beats(world, begun=1)
    for _ in range(6):
        for each in world.instances:
            before = world.under_way
            await each.end_one()
            await each.beat()
            # None begins before there is room below the new limit.
            assert world.under_way < before or before <= 2
    # The higher one counts when all know it.
    second.limit_to(2)
    await each_beats(world, begun=1, times=4)
    assert world.under_way == 2
    first.limit_to(8)
    await each_beats(world, begun=4, times=2)
    assert world.under_way == 2
    second.limit_to(8)
    await each_beats(world, begun=4, times=3)
    assert world.under_way == 8


async def test_a_statement_that_comes_late_changes_nothing(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=2)
    first, second = world.instances
    await first.begin()
    await first.beat()
    # It holds one, and wants no more.
    await first.delay()
    await first.beat()
    for _ in range(LIMIT - 1):
        await first.begin()
    await first.beat()
    assert len(first.calls) == LIMIT
    await first.come_late()
    await second.begin()
    await second.beat()
    assert world.under_way == LIMIT


async def test_who_was_stopped_takes_nobody_for_dead(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=2)
    first, second = world.instances
    await first.begin()
    await first.beat()
    await second.look()
    await second.freeze()
    for _ in range(4):
        await world.pass_time(KEPT / 4, working=True)
        await first.begin()
    assert first.held
    while len(first.calls) < LIMIT:
        await first.begin()
        await first.beat()
    await second.wake()
    await second.begin()
    await second.beat()
    assert world.under_way == LIMIT


async def test_without_the_record_what_is_held_is_used_until_the_lease_ends(
    pool: asyncpg.Pool,
) -> None:
    world = World(pool, instances=1)
    [only] = world.instances
    await only.begin()
    await only.begin_stream()
    await only.beat()
    await only.cut()
    await only.end_one()
    await only.begin()
    assert len(only.calls) == 2
    # There is nothing more to be had, but what is held will be free again.
    await only.begin()
    await only.beat()
    assert not only.refused
    await world.pass_time(LEASE)
    await only.beat()
    [failure] = only.refused
    assert (failure.kind, failure.called) == (FailureKind.RATE_LIMITED, False)
    assert "its limit of 3 calls at once" in str(failure)
    # What is under way may have its time; a stream, too, and no more.
    await world.pass_time(TIMEOUT - LEASE - 0.1)
    assert len(only.calls) == 2
    await world.pass_time(LEASE + 0.2)
    assert not only.calls
    await only.heal()
    await only.begin()
    await only.beat()
    assert len(only.calls) == 1


async def test_a_record_that_does_not_answer_is_as_good_as_away(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "ANSWER_SECONDS", 0.01)
    world = World(pool, instances=1)
    [only] = world.instances
    only.way.silence = asyncio.get_running_loop().create_future()
    for times in (1, 2):
        await only.begin()
        await only.beat()
        assert len(only.refused) == times
    # It is not asked again before it has answered.
    assert only.way.times == 1
    # From here on it answers, however slow the machine is.
    monkeypatch.setattr(sharing, "ANSWER_SECONDS", 60.0)
    only.way.silence.set_result(None)
    assert only.slots._asking is not None
    await only.slots._asking
    await only.begin()
    await only.beat()
    assert len(only.calls) == 1


async def test_what_is_held_and_used_is_measured(pool: asyncpg.Pool) -> None:
    world = World(pool, instances=1)
    [only] = world.instances
    reader = InMemoryMetricReader()
    SlotMetrics(MeterProvider([reader]).get_meter("test"), only.slots.standing)
    await only.begin()
    await only.begin()
    await only.beat()
    await only.end_one()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    values = {(each.name, getattr(each.data.data_points[0], "value", None)) for each in metrics}
    assert values == {("stepwire.router.slots.held", 2), ("stepwire.router.slots.used", 1)}
