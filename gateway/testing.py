"""Runs a real Envoy with a rendered configuration, for tests."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from gateway.config import command, write
from gateway.settings import GatewaySettings
from stepwire.stack.ports import LOOPBACK, is_free
from stepwire.testing.poll import eventually

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0

# Below those that the system gives to outgoing connections, one of which might take a
# port between the look at it and its use.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class RunningEnvoy:
    """An Envoy that takes calls.

    Attributes:
        target: Host and port for clients.
        admin_target: Host and port of the admin interface.
        access_log: The file that gets a JSON line per call, with a short delay.
    """

    target: str
    admin_target: str
    access_log: Path


def free_ports(count: int) -> list[int]:
    """Returns distinct ports of the loopback address on which nothing listens."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)  # noqa: S311  (no secret)
        if port not in found and is_free(port):
            found.append(port)
    return found


@asynccontextmanager
async def running_envoy(folder: Path, **settings: Any) -> AsyncIterator[RunningEnvoy]:
    """Runs Envoy on free ports until the block ends.

    Args:
        folder: Where its configuration, access log and own log are written.
        settings: Fields of `GatewaySettings`, such as the upstreams' targets.

    Raises:
        AssertionError: Envoy refused the configuration, or was not ready in time.
    """
    port, admin_port = free_ports(2)
    access_log = folder / "access.jsonl"
    chosen = GatewaySettings.model_validate(
        {"port": port, "admin_port": admin_port, "access_log": str(access_log)} | settings
    )
    configuration = folder / "envoy.yaml"
    write(chosen, configuration)
    own_log = folder / "envoy.log"
    admin_target = f"{LOOPBACK}:{admin_port}"
    async with AsyncExitStack() as stack:
        output = stack.enter_context(own_log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *command(chosen, configuration), stdout=output, stderr=output
        )
        stack.push_async_callback(_stop, process)
        await _until_live(process, admin_target, own_log)
        yield RunningEnvoy(
            target=f"{LOOPBACK}:{port}", admin_target=admin_target, access_log=access_log
        )


async def _until_live(process: asyncio.subprocess.Process, admin_target: str, log: Path) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{admin_target}", trust_env=False) as admin:

        async def live_or_dead() -> bool:
            if process.returncode is not None:
                return True
            try:
                answer = await admin.get("/ready")
            except httpx2.TransportError:
                return False
            return answer.is_success

        probe: Callable[[], bool | Awaitable[bool]] = live_or_dead
        await eventually(probe, timeout_seconds=_START_SECONDS)
    assert process.returncode is None, await asyncio.to_thread(log.read_text, encoding="utf-8")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
