"""How long the machine stood still: what it then did late says nothing of what runs on it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_SECONDS = 0.02


class Pauses:
    """What was seen of pauses so far.

    Attributes:
        longest_seconds: by how much a look came late at most.
    """

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def look(self) -> None:
        """Look at the clock again and again, until cancelled."""
        while True:
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - due)


@asynccontextmanager
async def pauses() -> AsyncIterator[Pauses]:
    """See pauses within the block, those of this process's event loop among them."""
    seen = Pauses()
    looking = asyncio.create_task(seen.look())
    try:
        yield seen
    finally:
        looking.cancel()
