"""Counts what happens while tasks run, event by event. Pure."""

from dataclasses import dataclass, field

from stepwire.api.executor.v1.task_pb2 import TaskEvent, TaskEventType

_STEP_ENDS = frozenset(
    {
        TaskEventType.TASK_EVENT_TYPE_STEP_SUCCEEDED,
        TaskEventType.TASK_EVENT_TYPE_STEP_RETRYING,
        TaskEventType.TASK_EVENT_TYPE_STEP_FAILED,
        TaskEventType.TASK_EVENT_TYPE_STEP_LOST,
    }
)


@dataclass(slots=True)
class Tally:
    """How far a number of tasks have come.

    Attributes:
        total: Tasks in all.
        succeeded: Tasks that ended well.
        failed: Tasks that failed or were cancelled.
        completed_steps: Steps whose output was recorded.
        lost_steps: Attempts that were lost with their worker.
        running: The steps that run now, as (task id, step id).
    """

    total: int
    succeeded: int = 0
    failed: int = 0
    completed_steps: int = 0
    lost_steps: int = 0
    running: set[tuple[str, str]] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Tasks that ended, well or not."""
        return self.succeeded + self.failed

    def add(self, event: TaskEvent) -> None:
        """Counts an event; each must be given once, a task's events in order."""
        step = (event.task_id, event.step_id)
        match event.type:
            case TaskEventType.TASK_EVENT_TYPE_STEP_STARTED:
                self.running.add(step)
            case TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED:
                self.succeeded += 1
            case (
                TaskEventType.TASK_EVENT_TYPE_TASK_FAILED
                | TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED
            ):
                self.failed += 1
            case TaskEventType.TASK_EVENT_TYPE_STEP_SUCCEEDED:
                self.completed_steps += 1
            case TaskEventType.TASK_EVENT_TYPE_STEP_LOST:
                self.lost_steps += 1
        if event.type in _STEP_ENDS:
            self.running.discard(step)
