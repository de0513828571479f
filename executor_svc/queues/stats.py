"""Counts what happens in queues, and adds it to the record every few seconds.

Counting is a few additions in memory for each batch of steps; the record gets one statement
per process and interval. What a process has counted and not added when it dies is lost:
the counts serve rates, and nothing is decided by them for good.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import datetime

from executor_svc.engine.records import Attempt, StepRef
from executor_svc.queues.ports import TrafficStore
from executor_svc.queues.records import Traffic
from stepwire.telemetry import durations, names

logger = logging.getLogger(__name__)


class _Counts:
    """A `Traffic` that grows."""

    __slots__ = ("arrived", "busy_seconds", "failed", "finished", "started", "wait_seconds")

    def __init__(self) -> None:
        self.arrived = self.started = self.finished = self.failed = 0
        self.wait_seconds = self.busy_seconds = 0.0

    def traffic(self) -> Traffic:
        return Traffic(
            self.arrived,
            self.started,
            self.finished,
            self.failed,
            self.wait_seconds,
            self.busy_seconds,
        )


class QueueStats:
    """Counts of one process, by queue. For use from its event loop alone."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}
        self._waits = durations(
            names.STEP_WAIT,
            description="Time from when a step is ready to when its attempt starts, by queue.",
            attributes=(names.QUEUE,),
            bounds=names.STEP_DURATION_BUCKETS,
        )

    def arrived(self, queue: str, count: int = 1) -> None:
        """Count steps that became ready."""
        self._of(queue).arrived += count

    def started(self, queue: str, count: int = 1, wait_seconds: float = 0.0) -> None:
        """Count attempts that were claimed; `wait_seconds` from ready to start, in sum."""
        counts = self._of(queue)
        counts.started += count
        counts.wait_seconds += wait_seconds

    def finished(
        self, queue: str, count: int = 1, busy_seconds: float = 0.0, *, failed: int = 0
    ) -> None:
        """Count attempts that ended, `failed` of them without success.

        `busy_seconds` is the time for which they held their slots, in sum: claim and
        settlement included, since a slot that waits for them takes no other step.
        """
        counts = self._of(queue)
        counts.finished += count
        counts.failed += failed
        counts.busy_seconds += busy_seconds

    def arrived_all(self, refs: Iterable[StepRef]) -> None:
        """Count steps that became ready."""
        for ref in refs:
            self._of(ref.queue).arrived += 1

    def claimed(self, attempts: Iterable[Attempt], now: datetime) -> None:
        """Count attempts that were claimed from their queues."""
        for attempt in attempts:
            ready_at = attempt.ready_at or now
            # Not below 0: their clocks are Postgres's and this machine's.
            wait_seconds = max(0.0, (now - ready_at).total_seconds())
            self.started(attempt.queue, 1, wait_seconds)
            self._waits.record(wait_seconds, attempt.queue)

    def continued(self, attempts: Iterable[Attempt]) -> None:
        """Count attempts that were claimed in the transaction that made them ready."""
        for attempt in attempts:
            self.arrived(attempt.queue)
            self.started(attempt.queue)
            self._waits.record(0.0, attempt.queue)

    def take(self) -> dict[str, Traffic]:
        """Return what was counted since the last call."""
        counts, self._counts = self._counts, {}
        return {queue: each.traffic() for queue, each in counts.items()}

    async def run(self, store: TrafficStore, *, every_seconds: float) -> None:
        """Add to the record what is counted, until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.flush(store)

    async def flush(self, store: TrafficStore) -> None:
        """Add to the record what is counted; what cannot be added is kept for the next time.

        A statement whose answer was lost may thus count twice.
        """
        traffic = self.take()
        if not traffic:
            return
        try:
            await store.add_traffic(traffic)
        except Exception as error:  # noqa: BLE001 - statistics must not stop the process
            logger.warning("counts of queues were not recorded", extra={"cause": repr(error)})
            for queue, each in traffic.items():
                self._give_back(queue, each)

    def _give_back(self, queue: str, traffic: Traffic) -> None:
        self.arrived(queue, traffic.arrived)
        self.started(queue, traffic.started, traffic.wait_seconds)
        self.finished(queue, traffic.finished, traffic.busy_seconds, failed=traffic.failed)

    def _of(self, queue: str) -> _Counts:
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = _Counts()
        return counts


async def start_stats(
    store: TrafficStore, stack: AsyncExitStack, *, every_seconds: float
) -> QueueStats:
    """Return this process's counts; they are added to the record until `stack` ends."""
    stats = QueueStats()
    stack.push_async_callback(stats.flush, store)
    adding = asyncio.create_task(stats.run(store, every_seconds=every_seconds), name="queue stats")
    stack.callback(adding.cancel)
    return stats
