"""Faults of executors and workers: they die, freeze, are blocked, cut off, or deployed."""

import asyncio
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from stepwire import failpoints
from stepwire.failpoints import Action
from stepwire.testing.poll import eventually
from tests.chaos.cluster import LEASE_SECONDS, Cluster
from tests.chaos.faults.fault import FIRE_SECONDS, Fault, NotFiredError, or_not_fired
from tests.chaos.history import Block, Halt
from tests.chaos.ledger import read_ledgers
from tests.chaos.parts import EXECUTOR, WORKER

# Whoever waits for an armed fault gives up sooner.
NEVER_MIND_SECONDS = 600.0
# Well past the lease, and past the sweep behind it.
STOP_SECONDS = LEASE_SECONDS * 1.5
SWEEP_SECONDS = 1.0
LEASE_LOST = "the lease has run out"
# More lives than have a failpoint each, by which a process can die of another fault.
TRIES = 4


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

        async def stop() -> bool:
            # It may just be dying of another fault: then its successor is meant.
            if await cluster.is_at_work(part):
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
                await eventually(lambda: cluster.is_at_work(part), FIRE_SECONDS)
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
