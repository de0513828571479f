"""What several oracles need."""

from tests.chaos.history import History, StepEnd, TaskEnd
from tests.chaos.intents import CANCELLED, FAILED, SUCCEEDED

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
# States in which a step of a task that has ended would be forgotten work.
UNFINISHED = frozenset({"READY", "RUNNING"})
# What begins with it undoes a step.
UNDO = "~"


def ends_by_id(history: History) -> dict[str, tuple[str, TaskEnd]]:
    """The recorded end of each task by its id, with the name for violations."""
    return {
        task.recorded[0]: (task.name, task.end)
        for task in history.tasks
        if task.end is not None and task.recorded
    }


def step_of(end: TaskEnd, step_id: str) -> StepEnd | None:
    """A step by its id."""
    return next((step for step in end.steps if step.step == step_id), None)
