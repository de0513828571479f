"""An installation for one run: a database, executors, workers, and clients of it."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import asyncpg

from stepwire.db import migrate, open_pool
from stepwire.mq import Topology
from stepwire.sdk.client import Client
from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.testing.poll import eventually
from tests.chaos.ledger import FOLDER_VARIABLE
from tests.chaos.parts import EXECUTOR, WORKER, Part
from tests.chaos.servers import Servers
from tests.integration.tcp_gate import Gate, gate_to

T = TypeVar("T")
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
# Workers are named after their processes.
HAS_LEASE = """
SELECT count(*) FROM executor.worker_sessions WHERE worker LIKE $1 AND expires_at > now()
"""


@dataclass
class Cluster:
    """What a run works with.

    Attributes:
        folder: logs and ledgers of the run.
        executors, workers: the processes.
        clients: one per executor.
        gates: the ways to Postgres of workers that can be cut off from it, by their names.
    """

    servers: Servers
    database_url: str
    topology: Topology
    folder: Path
    executors: Sequence[Part]
    workers: Sequence[Part]
    clients: Sequence[Client]
    gates: Mapping[str, Gate]

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

    async def is_at_work(self, part: Part) -> bool:
        """Whether a part is ready, and a worker has a lease, which it can then lose."""
        if part.kind != WORKER or not part.is_ready():
            return part.is_ready()
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(self.database_url)
            try:
                return bool(await connection.fetchval(HAS_LEASE, f"%:{part.pid}"))
            finally:
                await connection.close()
        return False

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
    gated: Collection[str] = (),
    broken: str = "",
) -> AsyncIterator[Cluster]:
    """Run an installation of its own over the servers.

    Args:
        servers: what it stands on.
        folder: for logs and ledgers; made here.
        executors, workers: how many processes of each.
        lives: the failpoints of a part's lives, one after the other, by the part's name.
        gated: the workers that can be cut off from Postgres.
        broken: the build to run; see `tests.chaos.broken`. Empty: the one that is tested.
    """
    (folder / "ledgers").mkdir(parents=True)
    async with AsyncExitStack() as stack:
        stack.callback(servers.clocks.reset)
        url = await stack.enter_async_context(servers.database())
        async with open_pool(url, application_name="chaos") as pool:
            await migrate(pool, package="executor_svc", schema="executor")
        topology = Topology(f"chaos-{uuid.uuid4().hex[:8]}")
        gates = {name: await stack.enter_async_context(gate_to(url)) for name in gated}
        ports = [free_port() for _ in range(executors)]
        settings = {
            **{f"{EXECUTOR}-{i}": {**EXECUTOR_SETTINGS, "port": port} for i, port in _count(ports)},
            **{f"{WORKER}-{i}": WORKER_SETTINGS for i, _ in _count(range(workers))},
        }
        shared = {
            **SHARED,
            "rabbitmq_url": servers.rabbit.url,
            "mq_namespace": topology.namespace,
        }
        extra = {FOLDER_VARIABLE: str(folder / "ledgers"), "STEPWIRE_CHAOS_BROKEN": broken}
        parts = []
        for name, own in settings.items():
            way = gates[name].url if name in gates else url
            part = Part(
                name,
                folder=folder,
                settings={**shared, **own, "postgres_url": way},
                extra=extra,
                clocks=servers.clocks,
            )
            part.lives.extend(lives.get(name, ()))
            stack.push_async_callback(part.stop)
            part.start()
            parts.append(part)
        clients = [await stack.enter_async_context(Client(f"{LOOPBACK}:{port}")) for port in ports]
        cluster = Cluster(
            servers, url, topology, folder, parts[:executors], parts[executors:], clients, gates
        )
        await cluster.ready()
        yield cluster
        await asyncio.gather(*(part.stop() for part in cluster.parts))


def _count(things: Iterable[T]) -> Iterator[tuple[int, T]]:
    return enumerate(things, start=1)
