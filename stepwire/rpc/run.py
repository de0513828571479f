"""Runs a gRPC service as a process."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from stepwire.lifecycle import Stopping, run_process
from stepwire.rpc.server import Server
from stepwire.rpc.service import Build, Service
from stepwire.settings import ServiceSettings

_logger = logging.getLogger(__name__)


def run(name: str, settings: ServiceSettings, build: Build) -> None:
    """Runs a service until it is told to stop; blocks.

    It listens at once and answers health with NOT_SERVING while it builds, with
    SERVING after. On SIGTERM or SIGINT: health, the services' own drain, the calls
    under way, what was built in reverse, telemetry; all within `drain_seconds`.

    Args:
        name: The process's name, e.g. "router".
        settings: Where to listen, and the limits.
        build: Opens what the services need and returns them.

    Raises:
        SystemExit: With code 1, if the port is taken or the build fails; the log
            says why.
    """

    async def main(stack: AsyncExitStack, stopping: Stopping) -> None:
        async with Server(name, settings) as server:
            services = await _unless_stopped(build, stack, stopping)
            if services is None:
                return
            server.serve(services)
            _logger.info(
                "%s is ready on %s",
                name,
                server.address,
                extra={"services": [service.name for service in services]},
            )
            await stopping.wait()
            await server.drain(grace_seconds=stopping.drain_seconds_left())

    run_process(name, settings, main)


async def _unless_stopped(
    build: Build, stack: AsyncExitStack, stopping: Stopping
) -> Sequence[Service] | None:
    """Builds; gives up and returns None when the process is asked to stop meanwhile."""
    loop = asyncio.get_running_loop()
    # A timeout without a time, used to interrupt this very task: what is built must be
    # closed by the task that opened it.
    async with AsyncExitStack() as watching:
        try:
            async with asyncio.timeout(None) as interruption:

                async def interrupt() -> None:
                    await stopping.wait()
                    interruption.reschedule(loop.time())

                watching.callback(asyncio.create_task(interrupt()).cancel)
                return await build(stack)
        except TimeoutError:
            if not interruption.expired():
                raise
            return None
