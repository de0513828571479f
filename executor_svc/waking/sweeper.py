"""Wakes what nothing else would wake.

Steps of workers that died, steps whose wait is over by the clock, steps for which no worker
came in time, steps whose message was lost, and steps and tasks whose turn under a limit has
come or was missed. Every instance of the executor sweeps; rows that another one has in hand
are passed over.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from executor_svc.engine.ports import Effects, SweepStore
from executor_svc.engine.records import EventBatch
from executor_svc.metrics import SweepMetrics
from executor_svc.tasks.events import parse_events
from executor_svc.waking.announce import Announcer
from executor_svc.waking.expiry import Expiry
from executor_svc.waking.limits import WaitingLimits
from executor_svc.waking.releaser import ReleaseStore
from executor_svc.waking.window import Window
from stepwire.api.executor.v1.task_pb2 import TaskEventType as Type
from stepwire.failpoints import failpoint

logger = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.01
# How long a step of a crowded queue must be overdue: its message is likely to be among
# those that wait, yet a queue that stays crowded must not strand one that was lost.
CROWDED_PATIENCE = timedelta(minutes=5)
# What frees places by itself leaves little to be tidied.
TIDY_SECONDS = 10.0
# A step may become due sooner than the clock was to be looked at.
BEGINS_TO_WAIT = (Type.TASK_EVENT_TYPE_STEP_RETRYING, Type.TASK_EVENT_TYPE_STEP_WAITING)


class Sweeper:
    """Sweeps until it is cancelled."""

    def __init__(
        self,
        store: SweepStore,
        announcer: Announcer,
        metrics: SweepMetrics,
        *,
        expiry: Expiry,
        limits: WaitingLimits,
        releases: ReleaseStore,
        window: Window,
        queues: Sequence[str],
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._expiry = expiry
        self._limits = limits
        self._releases = releases
        self._window = window
        self._announcer = announcer
        self._metrics = metrics
        self._queues = queues
        self._every_seconds = every_seconds
        self._clock = clock
        self._sooner = asyncio.Event()
        self._next_search = self._next_tidying = clock()
        # The limits behind this one are looked at next.
        self._after = ("", "")

    def observe(self, batches: Sequence[EventBatch]) -> None:
        """Look at the clock again when a step begins to wait: it may be due sooner."""
        for batch in batches:
            if any(f"[{type_}," in batch.events for type_ in BEGINS_TO_WAIT) and any(
                event.type in BEGINS_TO_WAIT for event in parse_events(batch)
            ):
                self._sooner.set()

    async def run(self) -> None:
        """Sweep for ever; a sweep that fails is repeated at the next turn."""
        while True:
            wait = self._every_seconds
            self._sooner.clear()
            try:
                await self._sweep_due()
                if self._clock() >= self._next_search:
                    self._next_search = self._clock() + self._every_seconds
                    await self._search()
                self._metrics.swept("expired", await self._expiry.sweep())
                wait = await self._until_due()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                self._metrics.failed()
                logger.warning("a sweep failed", extra={"cause": repr(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._sooner.wait()

    async def _sweep_due(self) -> None:
        """Wake what is due by the clock."""
        await self._wake("due", self._store.wake_due)
        # The attempts of tasks that have failed so would go on for nothing.
        self._announcer.announce_ends(
            await self._store.expire_tasks(), Type.TASK_EVENT_TYPE_TASK_FAILED
        )
        self._announcer.announce(Effects(released=await self._limits.due()))

    async def _search(self) -> None:
        """Find what was lost, or was missed."""
        await self._wake("session", self._store.lose_orphans)
        waiting = await self._limits.waiting(self._after)
        self._after = waiting[-1] if waiting else ("", "")
        self._announcer.announce(Effects(released=waiting))
        if self._clock() >= self._next_tidying:
            self._next_tidying = self._clock() + TIDY_SECONDS
            self._announcer.announce(await self._limits.tidy())
        await self._republish()

    async def _republish(self) -> None:
        overdue = await self._releases.overdue_queues(self._queues)
        if overdue:
            patience = {
                queue: CROWDED_PATIENCE if await self._window.is_crowded(queue) else timedelta(0)
                for queue in overdue
            }
            await self._wake("republish", lambda: self._store.republish(patience))

    async def _wake(self, cause: str, find: Callable[[], Awaitable[Effects]]) -> None:
        effects = await find()
        if effects.ready:
            await failpoint(f"sweep.{cause}")
        self._metrics.swept(cause, len(effects.ready))
        self._announcer.announce(effects, again=cause == "republish")

    async def _until_due(self) -> float:
        dues = [await self._store.next_due(), await self._limits.next_due()]
        wait, lag = self._every_seconds, timedelta(0)
        for due in filter(None, dues):
            left = due - datetime.now(UTC)
            lag = max(lag, -left)
            wait = min(wait, max(left.total_seconds(), SHORTEST_SECONDS))
        self._metrics.done(lag=lag)
        return wait
