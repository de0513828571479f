"""Some of what callers search for, kept to measure recall by.

Stored points say little of searches that come from elsewhere, such as questions among
answers. Collections can have some of their searches kept instead (`query_samples`): vectors
and numbers of points wanted, no filters, which hold values of callers.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vector_svc.engine.ports import CollectionGoneError
from vector_svc.engine.records import Collection, Matrix
from vector_svc.metrics import VectorMetrics
from vector_svc.search.ports import QuerySampleStore
from vector_svc.search.records import QuerySample

logger = logging.getLogger(__name__)

# What waits to be written takes so much memory at most: 2,700 vectors of 384 dimensions.
MAX_WAITING_BYTES: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Waiting:
    """Queries of a collection that are not written yet."""

    collection: Collection
    queries: list[QuerySample] = field(default_factory=list)


class QuerySamples:
    """Takes queries while searches go on, and writes them in batches behind them.

    Nothing that happens here reaches a search: what there is no room for is not taken, and
    what cannot be written is dropped. What was not written when a process ends is lost.

    Args:
        store: Where they are written.
        metrics: Counts them.
        rate: Share of the searches that are taken, from 0 to 1.
        every_seconds: Time between two batches.
        draw: Gives numbers from 0 to below 1, by chance.
    """

    def __init__(
        self,
        store: QuerySampleStore,
        metrics: VectorMetrics,
        *,
        rate: float,
        every_seconds: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._rate = rate
        self._every_seconds = every_seconds
        self._draw = draw
        self._waiting: dict[int, Waiting] = {}
        self._bytes = 0

    def offer(self, collection: Collection, vector: Matrix, wanted: int) -> None:
        """Take a search by chance, if its collection wants any and there is room."""
        most = collection.config.query_samples
        if not most or self._draw() >= self._rate:
            return
        waiting = self._waiting.get(collection.id) or Waiting(collection)
        full = len(waiting.queries) >= most
        if full or self._bytes + vector.nbytes > MAX_WAITING_BYTES:
            self._metrics.queries_dropped.add(1)
            return
        self._waiting[collection.id] = waiting
        self._bytes += vector.nbytes
        waiting.queries.append(QuerySample(vector, wanted))

    async def run(self) -> None:
        """Write what was taken, for ever."""
        while True:
            await asyncio.sleep(self._every_seconds)
            await self.write()

    async def write(self) -> None:
        """Write what was taken until now, collection by collection."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        for each in waiting.values():
            try:
                await self._store.keep(each.collection, each.queries)
            except CollectionGoneError:
                continue
            except Exception as error:  # noqa: BLE001 - Postgres may be away; searches go on
                logger.warning("query samples were not kept", extra={"cause": repr(error)})
                self._metrics.queries_dropped.add(len(each.queries))
            else:
                self._metrics.queries_kept.add(len(each.queries))
