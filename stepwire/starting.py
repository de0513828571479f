"""The start of a process: it builds what it works with, also while that is only coming back.

Servers that start or restart together come up in no particular order. A process that ends
because another is not there yet is started again later and later by whoever looks after it,
and comes back long after what it waited for.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from stepwire.errors import Reason, StepwireError
from stepwire.lifecycle import StartError, Stopping

_logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
R = TypeVar("R")
Build = Callable[[AsyncExitStack], Awaitable[R]]


async def start(
    build: Build[R], stack: AsyncExitStack, stopping: Stopping, *, within_seconds: float
) -> R | None:
    """Builds what a process works with; returns None when it is asked to stop meanwhile.

    Args:
        build: Opens what it needs on the stack it is given. While it meets
            DEPENDENCY_UNAVAILABLE it is called again, each time with another stack.
        stack: On it stays open what the last call has opened.
        stopping: Interrupts `build`.
        within_seconds: How long a dependency may be away.

    Raises:
        StartError: One was away for longer.
        Exception: Whatever else `build` raises.
    """
    # A timeout without a time, used to interrupt this very task: what is built must be
    # closed by the task that opened it.
    async with AsyncExitStack() as watching:
        try:
            async with asyncio.timeout(None) as interruption:

                async def interrupt() -> None:
                    await stopping.wait()
                    interruption.reschedule(asyncio.get_running_loop().time())

                watching.callback(asyncio.create_task(interrupt()).cancel)
                return await _persist(build, stack, within_seconds)
        except TimeoutError:
            if not interruption.expired():
                raise
            return None


async def _persist(build: Build[R], stack: AsyncExitStack, within_seconds: float) -> R:
    end = time.monotonic() + within_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            async with AsyncExitStack() as own:
                built = await build(own)
                await stack.enter_async_context(own.pop_all())
                return built
        except StepwireError as error:
            if error.reason is not Reason.DEPENDENCY_UNAVAILABLE:
                raise
            if time.monotonic() >= end:
                raise StartError(str(error)) from error
            _logger.warning("waiting for what is away", extra={"cause": str(error)})
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
