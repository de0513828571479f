"""What waits to be written, behind the calls."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from router_svc.cache.ports import Keeping

_logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1_000
"""Answers that wait to be written; more are not written there."""
MAX_BATCH: Final = 64
LINGER_SECONDS: Final = 0.05
DRAIN_SECONDS: Final = 5.0


class Backlog:
    """Answers that wait, and are written in batches.

    Args:
        write: Writes a batch. Does not raise.
    """

    def __init__(self, write: Callable[[Sequence[Keeping]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: deque[Keeping] = deque()
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()

    def add(self, keeping: Keeping) -> bool:
        """Takes an answer, at once; returns False when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(keeping)
        self._news.set()
        return True

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._news.wait()
            # Others come meanwhile, and are written together.
            await asyncio.sleep(LINGER_SECONDS)
            self._news.clear()
            await self.flush()

    async def drain(self) -> None:
        """Writes what waits at the end; not for ever, when somebody is away."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.flush()
        except TimeoutError:
            _logger.warning("answers were not kept", extra={"answers": len(self._waiting)})

    async def flush(self) -> None:
        """Writes all that waits."""
        async with self._writing:
            while self._waiting:
                count = min(MAX_BATCH, len(self._waiting))
                await self._write([self._waiting.popleft() for _ in range(count)])
