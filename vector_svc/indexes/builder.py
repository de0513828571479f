"""Builds indexes one after the other, as long as it runs."""

import asyncio
import logging
import random
from contextlib import suppress

from vector_svc.indexes.builds import request_build
from vector_svc.indexes.ports import BuildStore, Works
from vector_svc.metrics import VectorMetrics

logger = logging.getLogger(__name__)


class Builder:
    """Looks for what there is to build, and builds it.

    Every instance has one. A build belongs to who holds its lock; the lock of one who died
    is gone, so that another one begins the build again.

    Args:
        works: What there is to build.
        store: Where builds are asked for.
        metrics: Counts the builds.
        memory_bytes: Most memory of a build.
        every_seconds: Time between two looks.
    """

    def __init__(
        self,
        works: Works,
        store: BuildStore,
        metrics: VectorMetrics,
        *,
        memory_bytes: int,
        every_seconds: float,
    ) -> None:
        self._works = works
        self._store = store
        self._metrics = metrics
        self._memory_bytes = memory_bytes
        self._every_seconds = every_seconds
        self._asked = asyncio.Event()
        self._rng = random.Random()  # noqa: S311 - no secret

    def look(self) -> None:
        """Look at once."""
        self._asked.set()

    async def run(self) -> None:
        """Build for ever; what fails for want of Postgres is tried again."""
        while True:
            self._asked.clear()
            try:
                await self.turn()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("indexes were not built", extra={"cause": repr(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds * self._rng.uniform(0.9, 1.1)):
                    await self._asked.wait()

    async def turn(self) -> None:
        """Clean up behind builds, ask for those that are due, and build what there is."""
        # First: it may make the room that all else lacks.
        await self._works.tidy()
        for collection in await self._works.unindexed():
            # Slow is better than never: nobody is there to be asked.
            await request_build(self._store, collection, limit=self._memory_bytes, allow_slow=True)
        for build_id in await self._works.open():
            state = await self._works.build(build_id)
            if state is not None:
                self._metrics.built(state)
                logger.info("index build ended", extra={"build": str(build_id), "state": state})
