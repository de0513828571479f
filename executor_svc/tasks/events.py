"""Events of tasks: read from batches, handed to those who watch."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import orjson

from executor_svc.engine.records import EventBatch, TaskEvent
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.errors import Reason, StepwireError

FINAL = frozenset(
    {
        TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED,
        TaskEventType.TASK_EVENT_TYPE_TASK_FAILED,
        TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED,
    }
)


def parse_events(batch: EventBatch) -> Sequence[TaskEvent]:
    """Read the events of one transaction, in order."""
    parsed = orjson.loads(batch.events)
    first = batch.last_cursor - len(parsed) + 1
    return [
        TaskEvent(
            task_id=batch.task_id,
            cursor=first + place,
            type=event[0],
            step_id=event[1],
            attempt=event[2],
            detail=event[3] if len(event) > 3 else {},  # noqa: PLR2004 - the optional fourth
            recorded_at=batch.recorded_at,
        )
        for place, event in enumerate(parsed)
    ]


class EventHub:
    """Hands events to the watchers of their task in this process."""

    def __init__(self, *, max_buffered: int = 1000) -> None:
        self._max_buffered = max_buffered
        self._watchers: dict[UUID, set[asyncio.Queue[EventBatch | None]]] = defaultdict(set)
        self._closed = False

    def deliver(self, batches: Sequence[EventBatch]) -> None:
        """Hand batches to whoever watches their tasks.

        A watcher that is too far behind loses them; it notices the gap by the cursors and
        reads the record.
        """
        for batch in batches:
            for queue in self._watchers.get(batch.task_id, ()):
                if queue.qsize() < self._max_buffered:
                    queue.put_nowait(batch)

    def close(self) -> None:
        """End every watch: its queue gets None."""
        self._closed = True
        for queues in self._watchers.values():
            for queue in queues:
                queue.put_nowait(None)

    @asynccontextmanager
    async def watch(self, task_id: UUID) -> AsyncIterator[asyncio.Queue[EventBatch | None]]:
        """Yield a queue that gets the task's batches from now on, and None at the end.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when the hub is closed.
        """
        if self._closed:
            raise ending()
        queue: asyncio.Queue[EventBatch | None] = asyncio.Queue()
        self._watchers[task_id].add(queue)
        try:
            yield queue
        finally:
            self._watchers[task_id].discard(queue)
            if not self._watchers[task_id]:
                del self._watchers[task_id]


def ending() -> StepwireError:
    """The error of a watch that is cut off because the service stops."""
    return StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "this executor stops; ask again and another one answers",
        metadata={"dependency": "executor"},
    )
