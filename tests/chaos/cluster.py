"""An installation for one run: a database, executors, workers, and clients of it."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from stepwire.db import migrate, open_pool
from stepwire.mq import Topology
from stepwire.sdk.client import Client
from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.testing.poll import eventually
from tests.chaos.ledger import FOLDER_VARIABLE
from tests.chaos.parts import EXECUTOR, WORKER, Part, environment_of
from tests.chaos.servers import Servers

# Short enough that a run sees leases run out, long enough for two busy cores.
LEASE_SECONDS = 2.0
SHARED = {
    "republish_after_seconds": 0.5,
    # A run kills more workers than any sane installation.
    "max_losses": 1000,
    "queues": ["default"],
}
EXECUTOR_SETTINGS = {"sweep_seconds": 0.1, "recheck_seconds": 0.5}
WORKER_SETTINGS = {
    "lease_seconds": LEASE_SECONDS,
    "renew_seconds": 0.4,
    "reconcile_seconds": 0.5,
    "reconcile_age_seconds": 2,
    "step_modules": ["tests.chaos.chaos_functions"],
    "drain_seconds": 3,
}
START_SECONDS = 60.0


@dataclass
class Cluster:
    """What a run works with.

    Attributes:
        folder: logs and ledgers of the run.
        executors, workers: the processes.
        clients: one per executor.
    """

    servers: Servers
    database_url: str
    topology: Topology
    folder: Path
    executors: Sequence[Part]
    workers: Sequence[Part]
    clients: Sequence[Client]

    @property
    def parts(self) -> list[Part]:
        return [*self.executors, *self.workers]

    @property
    def ledgers(self) -> Path:
        return self.folder / "ledgers"

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    async def ready(self) -> None:
        """Wait until every part has become ready once."""

        def all_are() -> bool:
            waiting = [part for part in self.parts if not part.ready_times()]
            assert not waiting, f"not ready: {waiting[0].log}:\n{waiting[0].log.read_text('utf-8')}"
            return True

        await eventually(all_are, START_SECONDS)

    async def heal(self) -> None:
        """Make everything run again."""
        self.servers.free_disk()
        for part in self.parts:
            if part.alive and part.is_stopped():
                part.send(signal.SIGCONT)
        await self.servers.ready()
        await eventually(lambda: all(part.alive for part in self.parts), START_SECONDS)


@asynccontextmanager
async def running_cluster(
    servers: Servers,
    folder: Path,
    *,
    executors: int,
    workers: int,
    lives: Mapping[str, Sequence[str]],
    broken: str = "",
) -> AsyncIterator[Cluster]:
    """Run an installation of its own over the servers.

    Args:
        servers: what it stands on.
        folder: for logs and ledgers; made here.
        executors, workers: how many processes of each.
        lives: the failpoints of a part's lives, one after the other, by the part's name.
        broken: the build to run; see `tests.chaos.broken`. Empty: the one that is tested.
    """
    (folder / "ledgers").mkdir(parents=True)
    async with AsyncExitStack() as stack:
        stack.callback(servers.clocks.reset)
        url = await stack.enter_async_context(servers.database())
        async with open_pool(url, application_name="chaos") as pool:
            await migrate(pool, package="executor_svc", schema="executor")
        topology = Topology(f"chaos-{uuid.uuid4().hex[:8]}")
        shared = {
            **SHARED,
            "postgres_url": url,
            "rabbitmq_url": servers.rabbit.url,
            "mq_namespace": topology.namespace,
        }
        ports = [free_port() for _ in range(executors)]
        parts = []
        for kind, number in [
            *((EXECUTOR, number) for number in range(1, executors + 1)),
            *((WORKER, number) for number in range(1, workers + 1)),
        ]:
            own = (
                {**EXECUTOR_SETTINGS, "port": ports[number - 1]}
                if kind == EXECUTOR
                else WORKER_SETTINGS
            )
            environment = environment_of(
                {kind: {**shared, **own}},
                **{FOLDER_VARIABLE: str(folder / "ledgers"), "STEPWIRE_CHAOS_BROKEN": broken},
            )
            part = Part(kind, number, folder=folder, environment=environment, clocks=servers.clocks)
            part.lives.extend(lives.get(part.name, ()))
            stack.push_async_callback(part.stop)
            parts.append(part)
        for part in parts:
            part.start()
        clients = [await stack.enter_async_context(Client(f"{LOOPBACK}:{port}")) for port in ports]
        cluster = Cluster(
            servers, url, topology, folder, parts[:executors], parts[executors:], clients
        )
        await cluster.ready()
        yield cluster
        await asyncio.gather(*(part.stop() for part in cluster.parts))
