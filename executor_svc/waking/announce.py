"""Telling the world what was committed, without making anyone wait for it."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace

from executor_svc.engine.ports import Effects, EventBus, Wakeups
from executor_svc.queues.stats import QueueStats
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.failpoints import failpoint

logger = logging.getLogger(__name__)


class Announcer:
    """Publishes the effects of commits in the background.

    Nothing depends on it for its correctness: a wakeup that is lost is repeated by the
    sweeper, an event that is lost is read from the record.
    """

    def __init__(self, wakeups: Wakeups, bus: EventBus, stats: QueueStats) -> None:
        self._wakeups = wakeups
        self._bus = bus
        self._stats = stats
        self._under_way: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[Effects], None]] = []

    def listen(self, listener: Callable[[Effects], None]) -> None:
        """Have `listener` called with the effects of every commit from now on."""
        self._listeners.append(listener)

    def announce(
        self,
        effects: Effects,
        *,
        cancelled: bool = False,
        again: bool = False,
        held: Collection[str] = (),
    ) -> None:
        """Publish the wakeups and events of a commit.

        Args:
            effects: what the commit asks for.
            cancelled: whether the events tell workers to stop.
            again: whether its steps were ready before.
            held: queues whose steps are not published yet: they wait in the record.
        """
        for listener in self._listeners:
            listener(effects)
        if effects.ready:
            if not again:
                self._stats.arrived_all(effects.ready)
            published = [ref for ref in effects.ready if ref.queue not in held]
            self._begin(self._wakeups.publish(published if held else effects.ready))
        if effects.notices:
            self._begin(self._bus.publish_notices())
        if effects.events:
            publish = self._bus.publish_cancelled if cancelled else self._bus.publish
            self._begin(publish(effects.events))

    def announce_ends(self, effects: Effects, ending: "TaskEventType.ValueType") -> None:
        """Like `announce`; workers stop the attempts of the tasks that have ended by `ending`."""
        ends = f'[{ending},"",'
        stopped = [batch for batch in effects.events if ends in batch.events]
        others = [batch for batch in effects.events if ends not in batch.events]
        self.announce(replace(effects, events=others))
        self.announce(Effects(events=stopped), cancelled=True)

    async def drain(self) -> None:
        """Wait until everything announced is published."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _begin(self, publishing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(_publish(publishing))
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an announcement failed", exc_info=error)


async def _publish(publishing: Coroutine[None, None, None]) -> None:
    await failpoint("publish.before")
    await publishing
    await failpoint("publish.done")
