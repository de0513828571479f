"""Of no model are more calls under way than its concurrency, from all instances together.

What is under way is counted at the provider, which goes on with the calls of an instance
that was stopped or cut off for as long as a try may take.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from router_svc.catalogue.holder import Snapshot
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.limits import sharing
from router_svc.limits.metrics import LimitMetrics, SlotMetrics
from router_svc.limits.ports import Claim, Grant, Sign, Silence
from router_svc.limits.sharing import MARGIN_SECONDS, SharedSlots
from router_svc.limits.slots import TURN_SECONDS, HeldSlot
from router_svc.limits.store import PostgresSlots
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.unit.router_svc.router_builders import a_catalogue, a_model

LEASE, TIMEOUT = 10.0, 20.0
KEPT = LEASE + TIMEOUT + MARGIN_SECONDS
RENEWAL = LEASE / 4
LIMIT = 3
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


@dataclass
class Way:
    """The way of one instance to the record, where statements may be lost, or come late."""

    pool: asyncpg.Pool
    cut: bool = False
    loses_answer: bool = False
    is_late: bool = False
    late: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    silence: asyncio.Future[None] | None = None
    times: int = 0

    async def hold(
        self, session_id: UUID, beat: int, claims: Sequence[Claim]
    ) -> Mapping[str, Grant]:
        self.times += 1
        self._pass()
        if self.silence is not None:
            await self.silence
        if self.is_late:
            self.is_late = False
            self.late.append(lambda: PostgresSlots(self.pool).hold(session_id, beat, claims))
            raise _away()
        grants = await PostgresSlots(self.pool).hold(session_id, beat, claims)
        if self.loses_answer:
            self.loses_answer = False
            raise _away()
        return grants

    async def others(self, session_id: UUID) -> Sequence[Sign]:
        self._pass()
        return await PostgresSlots(self.pool).others(session_id)

    async def free(self, silences: Sequence[Silence]) -> Mapping[str, int]:
        self._pass()
        return await PostgresSlots(self.pool).free(silences)

    def _pass(self) -> None:
        if self.cut:
            raise _away()


def _away() -> StepwireError:
    return StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "away")


@dataclass
class Call:
    """A call that is under way at the provider."""

    begun: float
    slot: HeldSlot
    is_stream: bool


class Instance:
    """A router, whose background work is done when the test says so."""

    def __init__(self, world: "World", most: int) -> None:
        self.world = world
        self.way = Way(world.pool)
        self.is_frozen = False
        self.slots = SharedSlots(
            self.way, LimitMetrics(NoOpMeter("test")), world.clock, lease_seconds=LEASE
        )
        self.waiting: set[asyncio.Task[None]] = set()
        self.calls: list[Call] = []
        self.refused: list[ProviderFailure] = []
        self.limit_to(most)

    def limit_to(self, most: int) -> None:
        self.most = most
        self.model = a_model("m", limits={"concurrency": most}, timeout_seconds=TIMEOUT)
        self.slots.use(Snapshot(a_catalogue(self.model), {}, "1"))

    async def begin(self, *, is_stream: bool = False) -> None:
        """Asks for a slot, and calls the provider when it comes."""
        task = asyncio.create_task(self._call(is_stream=is_stream))
        self.waiting.add(task)
        task.add_done_callback(self.waiting.discard)
        await settle()

    async def begin_stream(self) -> None:
        await self.begin(is_stream=True)

    async def _call(self, *, is_stream: bool) -> None:
        try:
            slot = await self.slots.slot(self.model)
        except ProviderFailure as failure:
            self.refused.append(failure)
            return
        self.calls.append(Call(self.world.now, slot, is_stream))
        self.world.count()

    async def end(self, call: Call) -> None:
        self.calls.remove(call)
        call.slot.release()
        await settle()

    async def end_one(self) -> None:
        if self.calls:
            await self.end(self.calls[0])

    async def give_up(self) -> None:
        for task in list(self.waiting)[:1]:
            task.cancel()
        await settle()

    async def beat(self) -> None:
        await self.slots.exchange()
        await settle()

    async def look(self) -> None:
        if not self.way.cut:
            await self.slots.look()

    async def go_on(self) -> None:
        """Ends the calls that have had their time, as a process does that is not stopped."""
        for call in list(self.calls):
            timeout = math.inf if call.is_stream else call.begun + TIMEOUT - self.world.now
            if min(timeout, call.slot.seconds_left) <= 0:
                await self.end(call)

    async def freeze(self) -> None:
        self.is_frozen = True

    async def wake(self) -> None:
        """Does what was to be done meanwhile, with what was known before."""
        self.is_frozen = False
        await self.go_on()
        await self.look()

    async def cut(self) -> None:
        self.way.cut = True

    async def heal(self) -> None:
        self.way.cut = False

    async def lose_answer(self) -> None:
        self.way.loses_answer = True

    async def delay(self) -> None:
        self.way.is_late = True

    async def come_late(self) -> None:
        """Lets a statement reach the record that was given up long ago."""
        if self.way.late:
            with suppress(asyncpg.RaiseError):
                await self.way.late.pop()()

    async def die(self) -> None:
        for task in list(self.waiting):
            task.cancel()
        await settle()
        self.world.instances.remove(self)
        self.world.orphans += self.calls

    async def kill(self) -> None:
        """Puts another instance in its place."""
        await self.die()
        self.world.instances.append(Instance(self.world, self.most))

    @property
    def held(self) -> int:
        return sum(held for _, held, _ in self.slots.standing())


class World:
    """Some instances over one record and one provider, on a clock of their own."""

    def __init__(self, pool: asyncpg.Pool, *, instances: int = 3, most: int = LIMIT) -> None:
        self.pool = pool
        self.now = 1_000.0
        self.most_under_way = 0
        self.orphans: list[Call] = []
        self.instances: list[Instance] = []
        self.instances = [Instance(self, most) for _ in range(instances)]

    def clock(self) -> float:
        return self.now

    @property
    def under_way(self) -> int:
        # A provider needs no longer for a call than anybody would wait for it.
        frozen = [call for each in self.instances if each.is_frozen for call in each.calls]
        alone = [*self.orphans, *frozen]
        over = sum(self.now - call.begun >= TIMEOUT for call in alone)
        return sum(len(each.calls) for each in self.instances) + len(self.orphans) - over

    def count(self) -> None:
        self.most_under_way = max(self.most_under_way, self.under_way)

    async def pass_time(self, seconds: float, *, working: bool = False) -> None:
        """Lets time pass: all at once, or with what instances do in the background."""
        while working and seconds > RENEWAL:
            await self.pass_time(RENEWAL)
            seconds -= RENEWAL
            for each in self.instances:
                if not each.is_frozen:
                    await each.beat()
                    await each.look()
        self.now += seconds
        for each in self.instances:
            if not each.is_frozen:
                await each.go_on()


async def settle() -> None:
    """Lets all that can go on without the record."""
    for _ in range(5):
        await asyncio.sleep(0)


TROUBLES = [
    *(["freeze", "wake"], ["cut", "heal"], ["freeze", "cut", "wake", "heal"]),
    *(["lose_answer"], ["delay", "come_late"], ["kill"], ["give_up"], ["begin_stream"]),
]
SPANS = [0.0, TURN_SECONDS, RENEWAL, LEASE / 2, LEASE + 0.5, TIMEOUT + 0.5, KEPT + 0.5]
STEPS = 50


async def live(world: World, random: Random) -> AsyncIterator[str]:
    """Lets instances work and meet some kinds of trouble; yields what has happened."""
    troubles = [each for trouble in random.sample(TROUBLES, 2) for each in trouble]
    for _ in range(STEPS):
        instance = random.choice(world.instances)
        what = random.choice(["begin"] * 5 + ["end_one", "beat", "look", "trouble", "time"])
        if what == "time":
            await world.pass_time(random.choice(SPANS), working=random.random() < 0.8)
        elif what == "trouble":
            what = random.choice(troubles)
        if what in {"wake", "kill"} or (what != "time" and not instance.is_frozen):
            await getattr(instance, what)()
            if what in {"begin", "wake"} and random.random() < 0.7:
                await instance.beat()
        yield what


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
