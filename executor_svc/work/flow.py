"""Work that is carried on in batches, in order, by whoever is done with the last batch."""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Flow(Generic[T]):
    """Takes what waits while the last batch is under way, and carries it on together.

    Like `stepwire.batcher.Batcher`, for items that nobody waits for: `carry` says itself
    what becomes of them. An item whose batch raised is dropped, with an error in the log.
    """

    def __init__(
        self, name: str, carry: Callable[[Sequence[T]], Awaitable[None]], *, max_batch: int
    ) -> None:
        self._name = name
        self._carry = carry
        self._max_batch = max_batch
        self._waiting: deque[T] = deque()
        self._worker: asyncio.Task[None] | None = None

    def put(self, items: Iterable[T]) -> None:
        """Have items carried on."""
        self._waiting.extend(items)
        if self._worker is None and self._waiting:
            # A batch is no part of whatever happened to begin it.
            self._worker = asyncio.create_task(
                self._run(), name=f"flow:{self._name}", context=contextvars.Context()
            )

    async def drain(self) -> None:
        """Wait until everything that was put has been carried on."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._max_batch)
                batch = [self._waiting.popleft() for _ in range(count)]
                try:
                    await self._carry(batch)
                except Exception:
                    logger.exception("a batch was dropped", extra={"flow": self._name})
        finally:
            self._worker = None
