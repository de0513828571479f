"""How the parts of a running stack fare, asked at this moment."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import psutil

from stepwire.stack import postgres, rabbitmq
from stepwire.stack.probes import grpc_serving, http_ok, port_open, serves_metric
from stepwire.stack.secrets import StackSecrets, stack_secrets
from stepwire.stack.service import HEALTH_SERVICES, WORKER_SLOTS_SAMPLE
from stepwire.stack.state import PartState, StackState


@dataclass(frozen=True, kw_only=True)
class PartHealth:
    """What one part answered.

    Attributes:
        part: Its state as the supervisor keeps it.
        healthy: Whether it answered its probe.
        resident_bytes: Memory of its processes, its descendants' shared pages left out.
    """

    part: PartState
    healthy: bool
    resident_bytes: int


async def check_parts(home: Path, state: StackState) -> list[PartHealth]:
    """Asks all parts at the same time."""
    secrets = stack_secrets(home)

    async def check(part: PartState) -> PartHealth:
        alive = part.process is not None and part.process.is_alive()
        return PartHealth(
            part=part,
            healthy=alive and await _answers(part, secrets),
            resident_bytes=_resident_bytes(part) if alive else 0,
        )

    return await asyncio.gather(*(check(part) for part in state.parts))


def supervisor_resident_bytes(state: StackState) -> int:
    """Returns the memory of the supervisor itself."""
    if not state.supervisor.is_alive():
        return 0
    return int(psutil.Process(state.supervisor.pid).memory_info().rss)


async def _answers(part: PartState, secrets: StackSecrets) -> bool:
    """Asks a part by the port that it has."""
    ports = part.ports
    if "grpc" in ports:
        return await grpc_serving(ports["grpc"], service=HEALTH_SERVICES.get(part.name, ""))
    if "admin" in ports:
        return await http_ok(ports["admin"], "/ready")
    if "postgres" in ports:
        return await postgres.is_ready(
            postgres.url_of(ports["postgres"], secrets.postgres_password, "postgres")
        )
    if "amqp" in ports:
        url = rabbitmq.url_of(ports["amqp"], secrets.rabbitmq_password)
        return await port_open(ports["amqp"]) and await asyncio.to_thread(rabbitmq.is_ready, url)
    return await serves_metric(ports["metrics"], WORKER_SLOTS_SAMPLE)


def _resident_bytes(part: PartState) -> int:
    """Returns the memory of a part's process and all that descend from it."""
    assert part.process is not None
    total = 0
    try:
        process = psutil.Process(part.process.pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            memory = member.memory_info()
        except psutil.Error:
            continue
        # Postgres' processes all map its one cache; counted once, with its parent.
        shared = memory.shared if member is not process else 0
        total += max(0, memory.rss - shared)
    return total
