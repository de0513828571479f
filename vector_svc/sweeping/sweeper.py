"""Removes points whose time has come. Until then nothing shows them any more."""

import asyncio
import logging
import random
from typing import Protocol

from vector_svc.metrics import VectorMetrics

logger = logging.getLogger(__name__)


class SweepStore(Protocol):
    """Where points expire."""

    async def sweep(self, *, batch: int) -> int:
        """Remove points of all collections, up to `batch` of each; return their number.

        Of several instances one does it, the others return 0.
        """
        ...


class Sweeper:
    """Sweeps now and then until it is cancelled.

    Args:
        store: What is swept.
        metrics: Counts what was removed.
        every_seconds: Time between two turns.
        batch: Most points of a collection in one transaction.
    """

    def __init__(
        self, store: SweepStore, metrics: VectorMetrics, *, every_seconds: float, batch: int
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._batch = batch
        self._rng = random.Random()  # noqa: S311 - no secret

    async def run(self) -> None:
        """Take turns for ever; while a turn removed much, the next follows at once."""
        while True:
            try:
                removed = await self.turn()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("expired points were not removed", extra={"cause": repr(error)})
                removed = 0
            if removed < self._batch:
                await asyncio.sleep(self._every_seconds * self._rng.uniform(0.9, 1.1))

    async def turn(self) -> int:
        """Remove points once; return their number."""
        removed = await self._store.sweep(batch=self._batch)
        if removed:
            self._metrics.points_expired.add(removed)
        return removed
