"""Publishes the steps that wait in the record, in fair order; see `executor_svc.waking.window`.

Every instance of the executor releases; steps that another one has in hand are passed over.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from executor_svc.engine.ports import Wakeups
from executor_svc.engine.records import EventBatch, StepRef
from executor_svc.waking.window import Window
from stepwire.api.executor.v1.task_pb2 import TaskEventType

logger = logging.getLogger(__name__)

# Time between two turns while steps wait in the record.
TURN_SECONDS = 0.025
# A step that fans out may leave steps in the record.
FANNED_OUT = f"[{TaskEventType.TASK_EVENT_TYPE_STEP_EXPANDED},"


class ReleaseStore(Protocol):
    """Finds ready steps that have no message, and gives them one."""

    async def unpublished_queues(self) -> Mapping[str, bool]:
        """Return whether queues are paused: all that are, and those with unpublished steps."""

    async def release(self, queue: str, *, room: int) -> Sequence[StepRef]:
        """Take at most `room` steps of a queue to publish them: none if it is paused.

        Those of a higher priority come first; among equals each tenant has its share.
        """

    async def overdue_queues(self, queues: Collection[str]) -> Sequence[str]:
        """Return those queues with published steps that stay ready for too long."""


class Releaser:
    """Releases until it is cancelled."""

    def __init__(
        self,
        store: ReleaseStore,
        wakeups: Wakeups,
        window: Window,
        *,
        queues: Collection[str],
        every_seconds: float,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._window = window
        self._queues = queues
        self._every_seconds = every_seconds
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Look into the record now: a commit has left steps there."""
        self._nudged.set()

    def observe(self, batches: Sequence[EventBatch]) -> None:
        """Look into the record now if a step has fanned out."""
        if any(FANNED_OUT in batch.events for batch in batches):
            self.nudge()

    async def run(self) -> None:
        """Release for ever; a turn that fails is repeated."""
        while True:
            self._nudged.clear()
            waits = False
            try:
                waits = await self._turn()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("releasing steps failed", extra={"cause": repr(error)})
            if waits:
                await asyncio.sleep(TURN_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._nudged.wait()

    async def _turn(self) -> bool:
        """Publish what there is room for; return whether steps wait in the record."""
        paused = await self._store.unpublished_queues()
        for queue in self._queues:
            self._window.hold(queue, behind=queue in paused)
        waiting = [queue for queue in self._queues if not paused.get(queue, True)]
        for queue in waiting:
            room = await self._window.room(queue)
            if not room:
                continue
            refs = await self._store.release(queue, room=room)
            if refs:
                self._window.published(queue, len(refs))
                # The next look then finds these messages.
                await self._wakeups.publish(refs)
        return bool(waiting)
