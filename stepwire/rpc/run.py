"""Runs a gRPC service as a process."""

import logging
from contextlib import AsyncExitStack

from stepwire.lifecycle import Stopping, run_process
from stepwire.rpc.server import Server
from stepwire.rpc.service import Build
from stepwire.settings import ServiceSettings
from stepwire.starting import start

_logger = logging.getLogger(__name__)


def run(name: str, settings: ServiceSettings, build: Build) -> None:
    """Runs a service until it is told to stop; blocks.

    It listens at once and answers health with NOT_SERVING while it builds, with
    SERVING after. On SIGTERM or SIGINT: health, `linger_seconds` in which calls are still
    taken, the services' own drain, the calls under way, what was built in reverse,
    telemetry; all within `drain_seconds`.

    Args:
        name: The process's name, e.g. "router".
        settings: Where to listen, and the limits.
        build: Opens what the services need and returns them; called again while a
            dependency is away, for up to `start_seconds`.

    Raises:
        SystemExit: With code 1, if the port is taken or the build fails; the log
            says why.
    """

    async def main(stack: AsyncExitStack, stopping: Stopping) -> None:
        async with Server(name, settings) as server:
            services = await start(build, stack, stopping, within_seconds=settings.start_seconds)
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
            linger = min(settings.linger_seconds, stopping.drain_seconds_left())
            await server.drain(
                grace_seconds=stopping.drain_seconds_left() - linger, linger_seconds=linger
            )

    run_process(name, settings, main)
