"""The searches of one batch: those that differ in their vectors alone go in one statement."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vector_svc.engine.records import Collection, Matrix, Quantization
from vector_svc.search.ports import Order, Prepared, SearchStore
from vector_svc.search.records import Found

Waiting = tuple[Prepared, Matrix, "asyncio.Future[list[Found]]"]


class Together:
    """Carries out the orders of a batch, some at a time.

    What is ordered in one turn of the event loop is carried out together, in as many
    statements as may be under way at once: each keeps a core of Postgres busy.

    Args:
        store: Carries them out.
        at_once: Statements under way at once.
    """

    def __init__(self, store: SearchStore, *, at_once: int) -> None:
        self._store = store
        self._at_once = at_once
        self._places = asyncio.Semaphore(at_once)
        self._waiting: list[Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def search(self, prepared: Prepared, vector: Matrix | None) -> list[Found]:
        """Return the best points, as `SearchStore.search` does."""
        if vector is None or not _alike(prepared.collection, prepared.order):
            async with self._places:
                return await self._store.search(prepared, vector)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # Behind all other searches of the batch that are ready to be carried out.
            loop.call_soon(self._start)
        future: asyncio.Future[list[Found]] = loop.create_future()
        self._waiting.append((prepared, vector, future))
        return await future

    async def close(self) -> None:
        """End what is still under way: nobody waits for it any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        groups: defaultdict[tuple[int, Order], list[Waiting]] = defaultdict(list)
        for each in waiting:
            prepared, _, _ = each
            groups[prepared.collection.id, prepared.order].append(each)
        for group in groups.values():
            size = math.ceil(len(group) / self._at_once)
            for start in range(0, len(group), size):
                task = asyncio.create_task(self._carry_out(group[start : start + size]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, group: Sequence[Waiting]) -> None:
        prepared, vector, _ = group[0]
        try:
            async with self._places:
                if len(group) == 1:
                    results = [await self._store.search(prepared, vector)]
                else:
                    vectors = np.concatenate([vector for _, vector, _ in group])
                    results = await self._store.search_together(
                        prepared.collection, prepared.order, vectors
                    )
        except Exception as error:  # noqa: BLE001 - handed to all who wait
            for _, _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), found in zip(group, results, strict=True):
            if not future.done():
                future.set_result(found)


def _alike(collection: Collection, order: Order) -> bool:
    """Whether an order may differ from others in its vector alone, and go with them."""
    whole = collection.index.quantization is Quantization.NONE
    return whole and order.plan.walks and order.words is None and not order.offset
