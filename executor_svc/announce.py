"""Telling the world what was committed, without making anyone wait for it."""

import asyncio
import logging

from executor_svc.ports import Effects, EventBus, Wakeups

logger = logging.getLogger(__name__)


class Announcer:
    """Publishes the effects of commits in the background.

    Nothing depends on it for its correctness: a wakeup that is lost is repeated by the
    sweeper, an event that is lost is read from the record.
    """

    def __init__(self, wakeups: Wakeups, bus: EventBus) -> None:
        self._wakeups = wakeups
        self._bus = bus
        self._under_way: set[asyncio.Task[None]] = set()

    def announce(self, effects: Effects, *, cancelled: bool = False) -> None:
        """Publish the wakeups and events of a commit."""
        if effects.ready or effects.events:
            task = asyncio.create_task(self._publish(effects, cancelled=cancelled))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    async def drain(self) -> None:
        """Wait until everything announced is published."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _publish(self, effects: Effects, *, cancelled: bool) -> None:
        if effects.ready:
            await self._wakeups.publish(effects.ready)
        if effects.events:
            if cancelled:
                await self._bus.publish_cancelled(effects.events)
            else:
                await self._bus.publish(effects.events)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an announcement failed", exc_info=error)
