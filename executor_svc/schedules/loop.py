"""Carries out firings when they are due.

Every instance of the executor does so; what another one has in hand is passed over. One that
dies in the middle loses nothing: its schedules are taken by another when their lease has run
out, and a task that it created is found again by its request_id.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from executor_svc.engine.records import EventBatch
from executor_svc.schedules.firing import Firing
from executor_svc.schedules.ports import ScheduleStore
from executor_svc.schedules.records import Held, Schedule
from executor_svc.schedules.recovery import may_have_begun, recovered
from executor_svc.schedules.registry import LEASE
from executor_svc.tasks.events import FINAL, parse_events

logger = logging.getLogger(__name__)

SHORTEST_SECONDS: Final = 0.01
RETRY_PAUSE: Final = timedelta(seconds=1)
"""How long a firing waits whose task could not be created for a reason that may pass."""


class FiringLoop:
    """Carries out firings until it is cancelled.

    Args:
        store: Has the schedules.
        firing: Carries out what is due.
        every_seconds: Longest time between two looks.
        batch: Most schedules taken at once.
    """

    def __init__(
        self, store: ScheduleStore, firing: Firing, *, every_seconds: float, batch: int
    ) -> None:
        self._store = store
        self._firing = firing
        self._every_seconds = every_seconds
        self._batch = batch
        self._awaited: frozenset[UUID] = frozenset()
        self._sooner = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def look(self) -> None:
        """Look for what is due at once: there may be something new."""
        self._sooner.set()

    def observe(self, batches: Sequence[EventBatch]) -> None:
        """Look at once when a task has ended for which a firing waits."""
        for batch in batches:
            if batch.task_id in self._awaited and any(
                event.type in FINAL for event in parse_events(batch)
            ):
                self.look()

    async def run(self) -> None:
        """Carry out firings for ever; what fails is repeated at a later turn."""
        while not self._closing:
            wait = self._every_seconds
            self._sooner.clear()
            try:
                await self.turn()
                wait = await self._until_due()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("a look for due firings failed", extra={"cause": repr(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._sooner.wait()

    async def drain(self) -> None:
        """Take nothing more; wait until what is in hand is carried out."""
        self._closing = True
        self._sooner.set()
        await self._idle.wait()

    async def turn(self) -> None:
        """Carry out all that is due now."""
        self._idle.clear()
        try:
            while not self._closing:
                held = await self._store.take_due(limit=self._batch, lease=LEASE)
                await self._carry_out(held)
                if len(held) == self._batch:
                    continue
                before, self._awaited = self._awaited, await self._store.awaited()
                # A task that is awaited from now on may have ended before.
                if self._awaited <= before:
                    break
        finally:
            self._idle.set()

    async def _carry_out(self, held: Sequence[Held]) -> None:
        done = await asyncio.gather(*(self._fire(each) for each in held))
        pairs = list(zip(held, done, strict=True))
        if fired := [(each, new) for each, new in pairs if new is not None]:
            await self._store.record(fired)
        if postponed := [each for each, new in pairs if new is None]:
            await self._store.put_back(postponed, pause=RETRY_PAUSE)

    async def _fire(self, held: Held) -> Schedule | None:
        """Carry out what is due of a schedule; None when it is to be tried again."""
        try:
            async with asyncio.timeout(LEASE.total_seconds()):
                if may_have_begun(held) and (tasks := await self._store.begun(held.schedule)):
                    # What else is due is for the next look, by what runs then.
                    self.look()
                    return recovered(held, tasks)
                return await self._firing.regular(held)
        except Exception as error:  # noqa: BLE001 - one schedule must not stop the others
            logger.warning(
                "a firing is postponed",
                extra={"schedule": str(held.schedule.schedule_id), "cause": repr(error)},
            )
            return None

    async def _until_due(self) -> float:
        left = await self._store.until_due()
        if left is None:
            return self._every_seconds
        return min(max(left.total_seconds(), SHORTEST_SECONDS), self._every_seconds)
