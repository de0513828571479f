"""Showing and steering queues and workers."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from executor_svc.queues.overview import Overview
from executor_svc.queues.ports import QueueStore
from executor_svc.queues.records import Snapshot, WorkerRecord
from executor_svc.queues.signals import (
    Aim,
    QueueSignals,
    load_of,
    pool_of,
    signals_of,
    workers_wanted,
)
from stepwire.errors import Reason, StepwireError

# How often a drain looks whether steps still run.
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue with its signals; `paused_at` is None while it is active."""

    signals: QueueSignals
    note: str = ""
    paused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScalingView:
    """Signals of queues, and how many workers want to serve all of them."""

    workers_wanted: int
    queues: Sequence[QueueSignals]


class Queues:
    """The queues of an installation: those it is set up with, and any other with steps."""

    def __init__(
        self, store: QueueStore, overview: Overview, *, known: Sequence[str], aim: Aim
    ) -> None:
        self._store = store
        self._overview = overview
        self._known = frozenset(known)
        self._aim = aim

    @property
    def aim(self) -> Aim:
        """What workers are to achieve where a request says nothing."""
        return self._aim

    async def list(self) -> Sequence[QueueView]:
        """Return all queues by name."""
        snapshot = await self._overview.look()
        return [self._view(snapshot, queue) for queue in sorted(self._names(snapshot))]

    async def get(self, queue: str) -> QueueView:
        """Return a queue; what runs is counted anew.

        Raises:
            StepwireError: QUEUE_NOT_FOUND.
        """
        snapshot = await self._overview.look()
        self._check(queue, snapshot)
        view = self._view(snapshot, queue)
        running = await self._store.running(queue)
        return replace(view, signals=replace(view.signals, running=running))

    async def pause(self, queue: str, *, note: str, request_id: str) -> QueueView:
        """Let no further step of a queue start.

        A `request_id` pauses once: given again, it returns the queue as it is, even when it was
        resumed. Only the newest one is remembered; so it is with `resume`.

        Raises:
            StepwireError: QUEUE_NOT_FOUND.
        """
        self._check(queue, await self._overview.look())
        await self._store.pause(queue, note=note, request_id=request_id)
        return await self._changed(queue)

    async def resume(self, queue: str, *, request_id: str) -> QueueView:
        """Let the steps of a queue start again.

        Raises:
            StepwireError: QUEUE_NOT_FOUND.
        """
        self._check(queue, await self._overview.look())
        await self._store.resume(queue, request_id=request_id)
        return await self._changed(queue)

    async def drain(
        self, queue: str, *, note: str, at_most: timedelta, request_id: str
    ) -> QueueView:
        """Pause a queue and wait until none of its steps runs, for `at_most`.

        Raises:
            StepwireError: QUEUE_NOT_FOUND.
        """
        until = asyncio.get_running_loop().time() + at_most.total_seconds()
        await self.pause(queue, note=note, request_id=request_id)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while await self._store.running(queue):  # noqa: ASYNC110 - the record cannot call
                    await asyncio.sleep(LOOK_SECONDS)
        return await self._changed(queue)

    async def workers(self) -> Sequence[WorkerRecord]:
        """Return the workers that are alive, by name."""
        return (await self._overview.look()).workers

    async def drain_worker(self, session_id: UUID) -> WorkerRecord:
        """Have a worker start no further step.

        Raises:
            StepwireError: WORKER_NOT_FOUND.
        """
        worker = await self._store.drain_worker(session_id)
        if worker is None:
            raise StepwireError(
                Reason.WORKER_NOT_FOUND,
                f"no worker with the session {session_id} is alive",
                metadata={"session_id": str(session_id)},
            )
        self._overview.outdate()
        return worker

    async def scaling(self, queues: Sequence[str], aim: Aim) -> ScalingView:
        """Return the signals of queues; of all, when none is named.

        Raises:
            StepwireError: QUEUE_NOT_FOUND.
        """
        snapshot = await self._overview.look()
        for queue in queues:
            self._check(queue, snapshot)
        queues = queues or sorted(self._names(snapshot))
        return ScalingView(
            workers_wanted=workers_wanted(
                [load_of(snapshot, queue) for queue in queues],
                pool_of(snapshot.workers, queues),
                aim,
            ),
            queues=[signals_of(snapshot, queue, aim) for queue in queues],
        )

    async def _changed(self, queue: str) -> QueueView:
        self._overview.outdate()
        return await self.get(queue)

    def _names(self, snapshot: Snapshot) -> frozenset[str]:
        return self._known | snapshot.backlogs.keys() | snapshot.pauses.keys()

    def _check(self, queue: str, snapshot: Snapshot) -> None:
        if queue not in self._names(snapshot):
            raise StepwireError(
                Reason.QUEUE_NOT_FOUND,
                f"there is no queue {queue[:80]!r}",
                metadata={"queue": queue},
            )

    def _view(self, snapshot: Snapshot, queue: str) -> QueueView:
        signals = signals_of(snapshot, queue, self._aim)
        pause = snapshot.pauses.get(queue)
        if pause is None:
            return QueueView(signals)
        return QueueView(signals, pause.note, pause.since)
