"""Tasks that this process has accepted and whose end it has not heard of yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from executor_svc.engine.records import EventBatch
from executor_svc.waking.wire import ends_task

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Recent:
    """What is known of such a task; `sinks` are the steps whose outputs are the task's."""

    tenant_id: str
    sinks: Sequence[str]


class RecentTasks:
    """Saves who waits for a task right after its creation a look into the record.

    That look would come while a worker claims the task's first step. Only that the task is
    there and whose it is can be relied on: its end may have been missed.
    """

    def __init__(self) -> None:
        self._tasks: dict[UUID, Recent] = {}

    def remember(self, task_id: UUID, recent: Recent) -> None:
        """Keep a task that has been created; the oldest one may have to go for it."""
        if len(self._tasks) >= MAX_REMEMBERED:
            del self._tasks[next(iter(self._tasks))]
        self._tasks[task_id] = recent

    def deliver(self, batches: Sequence[EventBatch]) -> None:
        """Forget the tasks that end with these events."""
        for batch in batches:
            if batch.task_id in self._tasks and ends_task(batch):
                del self._tasks[batch.task_id]

    def find(self, task_id: UUID, *, tenant_id: str) -> Recent | None:
        """Return a task of a tenant, unless its end was heard of."""
        recent = self._tasks.get(task_id)
        return recent if recent is not None and recent.tenant_id == tenant_id else None
