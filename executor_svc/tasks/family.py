"""What the end of a task means for its parent, and for its subtasks: handlers of the relay."""

from uuid import UUID

from executor_svc.engine.records import StepAddress
from executor_svc.tasks.ports import TaskStore
from executor_svc.waking.announce import Announcer
from executor_svc.waking.relay import Notice

PARENT_NOTICES = "parent"
CHILD_NOTICES = "cancel_child"


class Family:
    """Carries out notices between tasks; each may come twice."""

    def __init__(self, store: TaskStore, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer

    async def wake_parent(self, notice: Notice) -> None:
        """Wake the step that waits for the task, which has ended."""
        parent = StepAddress(
            UUID(notice.payload["parent_task_id"]), notice.payload["parent_step_id"]
        )
        self._announcer.announce(await self._store.wake_parent(parent, notice.task_id))

    async def cancel_child(self, notice: Notice) -> None:
        """Cancel the subtask `child` of the task, which has ended without it."""
        effects = await self._store.cancel(UUID(notice.payload["child"]))
        if effects is not None:
            self._announcer.announce(effects, cancelled=True)
