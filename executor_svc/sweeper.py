"""Wakes what nothing else would wake.

Steps of workers that died, steps whose next attempt is due, and steps whose message was
lost. Every instance of the executor sweeps; rows that another one has in hand are passed
over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from executor_svc.announce import Announcer
from executor_svc.events import parse_events
from executor_svc.metrics import ExecutorMetrics
from executor_svc.ports import Effects, SweepStore, Wakeups
from executor_svc.records import EventBatch
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.errors import StepwireError

logger = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.01
# How long a step of a queue with a backlog must be overdue: its message is likely to be
# among those that wait, yet a queue that is never empty must not strand one that was lost.
BUSY_PATIENCE = timedelta(minutes=5)


class Sweeper:
    """Sweeps until it is cancelled."""

    def __init__(
        self,
        store: SweepStore,
        wakeups: Wakeups,
        announcer: Announcer,
        metrics: ExecutorMetrics,
        *,
        queues: Sequence[str],
        every_seconds: float,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._announcer = announcer
        self._metrics = metrics
        self._queues = queues
        self._every_seconds = every_seconds
        self._sooner = asyncio.Event()

    def observe(self, batches: Sequence[EventBatch]) -> None:
        """Look at the clock again when an attempt is to be repeated: it may be due sooner."""
        retrying = TaskEventType.TASK_EVENT_TYPE_STEP_RETRYING
        for batch in batches:
            if f"[{retrying}," in batch.events and any(
                event.type == retrying for event in parse_events(batch)
            ):
                self._sooner.set()

    async def run(self) -> None:
        """Sweep for ever; a sweep that fails is repeated at the next turn."""
        while True:
            wait = self._every_seconds
            self._sooner.clear()
            try:
                await self._sweep()
                wait = await self._until_due()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("a sweep failed", extra={"cause": repr(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._sooner.wait()

    async def _sweep(self) -> None:
        await self._wake("session", self._store.expire_sessions)
        await self._wake("retry", self._store.ready_due)
        patience = {queue: await self._patience(queue) for queue in self._queues}
        await self._wake("republish", lambda: self._store.republish(patience))

    async def _wake(self, cause: str, find: Callable[[], Awaitable[Effects]]) -> None:
        effects = await find()
        self._metrics.swept(cause, len(effects.ready))
        self._announcer.announce(effects)

    async def _patience(self, queue: str) -> timedelta:
        try:
            busy = await self._wakeups.backlog(queue) > 0
        except StepwireError:
            # No answer: a message more does no harm, one too few would.
            busy = False
        return BUSY_PATIENCE if busy else timedelta(0)

    async def _until_due(self) -> float:
        due = await self._store.next_due()
        if due is None:
            return self._every_seconds
        left = (due - datetime.now(UTC)).total_seconds()
        return min(max(left, SHORTEST_SECONDS), self._every_seconds)
