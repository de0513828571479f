"""What can be made to go wrong, and how one knows that it did."""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stepwire import failpoints
from stepwire.failpoints import Action
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.chaos.cluster import LEASE_SECONDS, Cluster
from tests.chaos.customers import persist
from tests.chaos.history import Block, Halt
from tests.chaos.ledger import read_ledgers
from tests.chaos.meddler import Meddler
from tests.chaos.parts import EXECUTOR, WORKER
from tests.chaos.servers import POSTGRES_CLOCK, count_no_space

FIRE_SECONDS = 20.0
# Whoever waits for an armed fault gives up sooner.
NEVER_MIND_SECONDS = 600.0
# Well past the lease, and past the sweep behind it.
STOP_SECONDS = LEASE_SECONDS * 1.5
SWEEP_SECONDS = 1.0
# More than a run lasts, less than a clock jumps.
MANY_SECONDS = 600
LEASE_LOST = "the lease has run out"
# More lives than have a failpoint each, by which a process can die of another fault.
TRIES = 4


class NotFiredError(Exception):
    """A fault did not happen: the run proves nothing about it."""


@contextmanager
def or_not_fired(what: str) -> Iterator[None]:
    """Turn a wait in vain into `NotFiredError`."""
    try:
        yield
    except (AssertionError, TimeoutError) as error:
        raise NotFiredError(f"{what}: {error}") from error


class Fault(ABC):
    """Something that goes wrong once.

    Attributes:
        alone: whether no fault of the servers may happen in the same run.
    """

    alone: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """How a report names it."""

    @abstractmethod
    async def strike(self, cluster: Cluster) -> str:
        """Make it happen, or wait until it has; return what was seen of it.

        Raises:
            NotFiredError: it did not happen.
        """


@dataclass
class Armed(Fault):
    """A failpoint in one life of a part.

    Attributes:
        part: the part's name.
        spec: one failpoint, as `stepwire.failpoints` reads it.
        blocks: filled when it has blocked an event loop.
    """

    part: str
    spec: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.part} {self.spec}"

    @property
    def alone(self) -> bool:  # type: ignore[override]
        return self._point.action == Action.BLOCK

    @property
    def _point(self) -> failpoints.Failpoint:
        (point,) = failpoints.parse(self.spec)
        return point

    async def strike(self, cluster: Cluster) -> str:
        part = cluster.part(self.part)
        with or_not_fired(self.name):
            await eventually(lambda: self._firing(cluster), NEVER_MIND_SECONDS)
        firing = self._firing(cluster)
        assert firing is not None
        pid = firing["pid"]
        match self._point.action:
            case Action.KILL:
                with or_not_fired(f"{self.name}: process {pid} lives on"):
                    await eventually(lambda: part.pid != pid or not part.alive, FIRE_SECONDS)
            case Action.STOP:
                return await stopped_past_its_lease(cluster, self.part)
            case Action.BLOCK:
                self._note_block(firing)
        return f"process {pid}"

    def _firing(self, cluster: Cluster) -> dict[str, Any] | None:
        point = self._point
        for line in cluster.part(self.part).firings():
            if (line["failpoint"], line["action"]) == (point.place, point.action):
                return line
        return None

    def _note_block(self, firing: dict[str, Any]) -> None:
        begun = firing["monotonic"]
        at = time.time() - (time.monotonic() - begun)
        self.blocks.append(Block(firing["pid"], begun, begun + firing["seconds"], at))


@dataclass
class Killed(Fault):
    """SIGKILL at any moment; a worker's while it runs a step."""

    part: str

    @property
    def name(self) -> str:
        return f"{self.part} killed"

    async def strike(self, cluster: Cluster) -> str:
        part = cluster.part(self.part)
        with or_not_fired(self.name):
            await eventually(lambda: self._can_be_killed(cluster), FIRE_SECONDS)
            pid = part.send(signal.SIGKILL)
            await eventually(lambda: part.alive and part.pid != pid, FIRE_SECONDS)
        return f"process {pid}"

    def _can_be_killed(self, cluster: Cluster) -> bool:
        """Whether it runs, and a worker a step; one that sleeps is still to wake up."""
        part = cluster.part(self.part)
        if not part.alive or part.is_stopped():
            return False
        return part.kind != WORKER or any(
            each.pid == part.pid and each.ended is None for each in read_ledgers(cluster.ledgers)
        )


@dataclass
class Stopped(Fault):
    """SIGSTOP of a process that is ready, at any moment, past its lease, then SIGCONT."""

    part: str

    @property
    def name(self) -> str:
        return f"{self.part} stopped"

    async def strike(self, cluster: Cluster) -> str:
        part = cluster.part(self.part)

        def stop() -> bool:
            # It may just be dying of another fault: then its successor is meant, once that
            # has a lease to lose.
            if part.is_ready():
                part.send(signal.SIGSTOP)
            return part.is_stopped()

        with or_not_fired(self.name):
            await eventually(stop, FIRE_SECONDS)
        return await stopped_past_its_lease(cluster, self.part)


@dataclass
class CutOff(Fault):
    """A worker cannot reach Postgres for longer than its lease, and its process goes on."""

    part: str

    @property
    def name(self) -> str:
        return f"{self.part} cut off"

    async def strike(self, cluster: Cluster) -> str:
        part = cluster.part(self.part)
        for _ in range(TRIES):
            with or_not_fired(self.name):
                await eventually(part.is_ready, FIRE_SECONDS)
            pid = part.pid
            if await self._outlasts_its_lease(cluster):
                return f"process {pid} lost its lease"
        raise NotFiredError(f"{self.name}: it died each time")

    async def _outlasts_its_lease(self, cluster: Cluster) -> bool:
        """Cut the process off that runs now; whether it lived to see its lease run out."""
        part, gate = cluster.part(self.part), cluster.gates[self.part]
        pid, lost = part.pid, part.count(LEASE_LOST)

        def is_over() -> bool:
            return part.count(LEASE_LOST) > lost or part.pid != pid or not part.alive

        await gate.shut()
        try:
            with or_not_fired(f"{self.part} kept its lease"):
                await eventually(is_over, FIRE_SECONDS)
            if part.count(LEASE_LOST) == lost:
                return False
            await until_somebody_sweeps(cluster)
        finally:
            await gate.open()
        return True


@dataclass
class Terminated(Fault):
    """SIGTERM, as a deployment does."""

    part: str

    @property
    def name(self) -> str:
        return f"{self.part} terminated"

    async def strike(self, cluster: Cluster) -> str:
        part = cluster.part(self.part)
        before = part.pid
        with or_not_fired(self.name):
            await part.terminate()
            await eventually(lambda: part.alive and part.pid != before, FIRE_SECONDS)
        return f"process {before}"


@dataclass
class PostgresRestarted(Fault):
    """Postgres ends, in good order or as in a crash, and is started again."""

    crash: bool

    @property
    def name(self) -> str:
        return f"postgres {'crashed' if self.crash else 'restarted'}"

    async def strike(self, cluster: Cluster) -> str:
        await cluster.servers.restart_postgres(signal.SIGQUIT if self.crash else signal.SIGINT)
        return "started again"


@dataclass
class BackendsTerminated(Fault):
    """Every backend of the database is terminated, several times."""

    times: int = 5
    pause_seconds: float = 0.15

    @property
    def name(self) -> str:
        return f"backends terminated, {self.times} times"

    async def strike(self, cluster: Cluster) -> str:
        ended = 0
        for _ in range(self.times):
            ended += await cluster.servers.terminate_backends(cluster.database_url)
            await asyncio.sleep(self.pause_seconds)
        if ended == 0:
            raise NotFiredError("no backend was there")
        return f"{ended} backends"


@dataclass
class RabbitRestarted(Fault):
    """RabbitMQ is killed and started again."""

    @property
    def name(self) -> str:
        return "rabbitmq killed"

    async def strike(self, cluster: Cluster) -> str:
        await cluster.servers.restart_rabbit()
        return "started again"


@dataclass
class MessagesMeddledWith(Fault):
    """Wakeups are dropped, doubled and reordered, and events doubled and reordered."""

    seed: int
    at_least: int = 3

    @property
    def name(self) -> str:
        return "messages dropped, doubled, reordered"

    async def strike(self, cluster: Cluster) -> str:
        kinds = ("dropped", "doubled", "reordered", "event")
        meddler = Meddler(
            cluster.servers.rabbit.url, cluster.topology, queue="default", seed=self.seed
        )
        meddler.start()
        try:
            with or_not_fired(self.name):
                await eventually(
                    lambda: all(meddler.done[kind] >= self.at_least for kind in kinds),
                    FIRE_SECONDS,
                )
        finally:
            await asyncio.to_thread(meddler.stop)
        return ", ".join(f"{meddler.done[kind]} {kind}" for kind in kinds)


@dataclass
class DiskFull(Fault):
    """The disk under Postgres is full until several writes have failed, and a while longer."""

    seconds: float = 1.0

    @property
    def name(self) -> str:
        return "disk full"

    async def strike(self, cluster: Cluster) -> str:
        servers = cluster.servers
        log = servers.postgres_log
        before = count_no_space(log)
        servers.fill_disk()
        try:
            with or_not_fired(self.name):
                await eventually(lambda: count_no_space(log) > before, FIRE_SECONDS)
            await asyncio.sleep(self.seconds)
        finally:
            servers.free_disk()
        await servers.ready()
        return f"{count_no_space(log) - before} writes failed"


@dataclass
class ClockJumped(Fault):
    """The time of day jumps, for one part or for Postgres, and stays so."""

    clock: str
    seconds: int

    @property
    def name(self) -> str:
        return f"clock of {self.clock} {self.seconds:+} s"

    async def strike(self, cluster: Cluster) -> str:
        cluster.servers.clocks.set(self.clock, self.seconds)
        with or_not_fired(self.name):
            return await eventually(lambda: self._seen(cluster), FIRE_SECONDS)

    async def _seen(self, cluster: Cluster) -> str:
        """What shows that somebody lives in the other time."""
        if self.clock == POSTGRES_CLOCK:
            return "by its own clock" if await self._is_off(cluster.servers.postgres_time()) else ""
        if self.clock.startswith(EXECUTOR):
            return await persist(lambda: self._made(cluster.clients[0]))
        pid = cluster.part(self.clock).pid
        offset = time.time() - time.monotonic()
        for each in read_ledgers(cluster.ledgers):
            if each.pid == pid and abs(each.wall - each.begun - offset - self.seconds) < 1:
                return f"process {pid} began {each.step} then"
        return ""

    async def _made(self, client: Client) -> str:
        async for task in client.find():
            if abs(task.create_time.seconds - time.time() - self.seconds) < MANY_SECONDS:
                return f"task {task.task_id} was made then"
        return ""

    async def _is_off(self, reading: Awaitable[float]) -> bool:
        return abs(await reading - time.time() - self.seconds) < 1


async def stopped_past_its_lease(cluster: Cluster, name: str) -> str:
    """See that a part is stopped, let its lease run out, let it go on, see what it finds."""
    part = cluster.part(name)
    pid = part.pid
    lost = part.count(LEASE_LOST)
    with or_not_fired(f"{name} does not stop"):
        await eventually(part.is_stopped, FIRE_SECONDS)
    part.halts.append(Halt(pid, time.monotonic()))
    await asyncio.sleep(STOP_SECONDS)
    if part.kind == WORKER:
        await until_somebody_sweeps(cluster)
    still = part.is_stopped() and part.pid == pid
    part.send(signal.SIGCONT)
    if not still:
        raise NotFiredError(f"{name} did not stay stopped")
    if part.kind == EXECUTOR:
        return f"process {pid}"
    with or_not_fired(f"{name} kept its lease"):
        # Another fault may have waited for it where it was stopped.
        await eventually(
            lambda: part.count(LEASE_LOST) > lost or part.pid != pid or not part.alive,
            FIRE_SECONDS,
        )
    return f"process {pid} {'lost its lease' if part.count(LEASE_LOST) > lost else 'died then'}"


async def until_somebody_sweeps(cluster: Cluster) -> None:
    """Wait until an executor is there that notices leases that have run out, and a while more."""
    with or_not_fired("no executor sweeps"):
        await eventually(lambda: any(each.is_ready() for each in cluster.executors), FIRE_SECONDS)
    await asyncio.sleep(SWEEP_SECONDS)
