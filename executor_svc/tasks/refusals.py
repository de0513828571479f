"""Why calls on tasks are refused. Pure."""

from uuid import UUID

from executor_svc.engine.records import StepRef, TaskRecord
from stepwire.errors import Reason, StepwireError


def task_not_found(task_id: UUID) -> StepwireError:
    """Return the error for a task that the tenant does not have."""
    return StepwireError(
        Reason.TASK_NOT_FOUND,
        f"there is no task {task_id}",
        metadata={"task_id": str(task_id)},
    )


def state_conflict(task: TaskRecord, verb: str, *, because: str = "") -> StepwireError:
    """Return the error for a verb that the state of a task does not allow."""
    return StepwireError(
        Reason.TASK_STATE_CONFLICT,
        f"task {task.task_id} {because or f'is {task.state}'}, which does not allow to {verb} it",
        metadata={"task_id": str(task.task_id), "state": task.state, "verb": verb},
    )


def attempt_over(attempt: StepRef) -> StepwireError:
    """Return the error for a subtask of an attempt that does not run any more."""
    return StepwireError(
        Reason.TASK_STATE_CONFLICT,
        f"attempt {attempt.attempt} of step {attempt.step_id} does not run any more, and may"
        " not start a subtask",
        metadata={
            "task_id": str(attempt.task_id),
            "step_id": attempt.step_id,
            "attempt": str(attempt.attempt),
        },
    )


def request_id_reused(request_id: str, task_id: UUID) -> StepwireError:
    """Return the error for a request_id that was used for something else."""
    return StepwireError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} was used for another request",
        metadata={"request_id": request_id, "task_id": str(task_id)},
    )


def signal_unknown(task_id: UUID, name: str) -> StepwireError:
    """Return the error for a signal that no step of a task waits for."""
    return StepwireError(
        Reason.SIGNAL_UNKNOWN,
        f"task {task_id} has no step that waits for the signal {name!r}",
        metadata={"task_id": str(task_id), "signal": name},
    )
