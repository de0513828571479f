"""Instances of the router over one record and one provider, on a clock of their own.

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
from opentelemetry.metrics import NoOpMeter

from router_svc.catalogue.holder import Snapshot
from router_svc.generate.failures import ProviderFailure
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.ports import Claim, Grant, Sign, Silence
from router_svc.limits.sharing import MARGIN_SECONDS, SharedSlots
from router_svc.limits.slots import TURN_SECONDS, HeldSlot
from router_svc.limits.store import PostgresSlots
from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.router_builders import a_catalogue, a_model

LEASE, TIMEOUT = 10.0, 20.0
KEPT = LEASE + TIMEOUT + MARGIN_SECONDS
RENEWAL = LEASE / 4
LIMIT = 3


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
            raise away()
        grants = await PostgresSlots(self.pool).hold(session_id, beat, claims)
        if self.loses_answer:
            self.loses_answer = False
            raise away()
        return grants

    async def others(self, session_id: UUID) -> Sequence[Sign]:
        self._pass()
        return await PostgresSlots(self.pool).others(session_id)

    async def free(self, silences: Sequence[Silence]) -> Mapping[str, int]:
        self._pass()
        return await PostgresSlots(self.pool).free(silences)

    def _pass(self) -> None:
        if self.cut:
            raise away()


def away() -> StepwireError:
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
