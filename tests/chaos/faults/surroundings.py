"""Faults of what executors and workers stand on: servers, messages, disks and clocks."""

import asyncio
import signal
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.chaos.cluster import Cluster
from tests.chaos.customers import persist
from tests.chaos.faults.fault import FIRE_SECONDS, Fault, NotFiredError, or_not_fired
from tests.chaos.ledger import read_ledgers
from tests.chaos.meddler import Meddler
from tests.chaos.parts import EXECUTOR
from tests.chaos.servers import POSTGRES_CLOCK

# More than a run lasts, less than a clock jumps.
MANY_SECONDS = 600
POSTGRES, RABBITMQ = "postgres", "rabbitmq"
# What a process says that starts before what it stands on.
WAITING = "waiting for what is away"


@dataclass
class PostgresRestarted(Fault):
    """Postgres ends, in good order or as in a crash, and is started again."""

    crash: bool

    @property
    def name(self) -> str:
        return f"postgres {'crashed' if self.crash else 'restarted'}"

    async def strike(self, cluster: Cluster) -> str:
        async with cluster.servers.without_postgres(
            signal.SIGQUIT if self.crash else signal.SIGINT
        ):
            pass
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
        async with cluster.servers.without_rabbit():
            pass
        return "started again"


@dataclass
class StartedWithout(Fault):
    """A server is away, and a process that dies meanwhile starts before it is back."""

    part: str
    server: str

    @property
    def name(self) -> str:
        return f"{self.part} started without {self.server}"

    async def strike(self, cluster: Cluster) -> str:
        servers, part = cluster.servers, cluster.part(self.part)
        away = {
            POSTGRES: lambda: servers.without_postgres(signal.SIGQUIT),
            RABBITMQ: servers.without_rabbit,
        }
        with or_not_fired(self.name):
            await eventually(part.is_ready, FIRE_SECONDS)
        async with away[self.server]():
            waited = part.count(WAITING)
            part.send(signal.SIGKILL)
            with or_not_fired(self.name):
                await eventually(lambda: part.count(WAITING) > waited, FIRE_SECONDS)
        with or_not_fired(f"{self.name}, and never came up"):
            await eventually(part.is_ready, FIRE_SECONDS)
        return f"process {part.pid} waited for it"


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
        before = servers.count_no_space()
        servers.fill_disk()
        try:
            with or_not_fired(self.name):
                await eventually(lambda: servers.count_no_space() > before, FIRE_SECONDS)
            await asyncio.sleep(self.seconds)
        finally:
            servers.free_disk()
        await servers.ready()
        return f"{servers.count_no_space() - before} writes failed"


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
