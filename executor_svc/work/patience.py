"""Going on while Postgres is away: what a step has done should not be thrown away for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stepwire.errors import Reason, StepwireError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
R = TypeVar("R")


async def outlast(call: Callable[[], Awaitable[R]], *, as_long_as: Callable[[], bool]) -> R:
    """Make `call` again and again while a dependency is away and `as_long_as` holds.

    Raises:
        StepwireError: whatever else `call` raises, and DEPENDENCY_UNAVAILABLE once
            `as_long_as` does not hold.
    """
    while True:
        try:
            return await call()
        except StepwireError as error:
            if error.reason != Reason.DEPENDENCY_UNAVAILABLE or not as_long_as():
                raise
            logger.warning("waiting for the record", extra={"cause": str(error)})
        await asyncio.sleep(PAUSE_SECONDS)
