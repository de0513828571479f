"""Steps that run another graph as a task of its own."""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import orjson

from executor_svc.engine.outcomes import Waits
from executor_svc.engine.records import Attempt, Blob, Failure, TaskState
from executor_svc.steps.kind import StepCall, StepError
from stepwire.payload import JSON, NULL

MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Child:
    """What has become of a subtask."""

    state: TaskState
    output: Blob | None
    failure: Failure | None


class Subtasks(Protocol):
    """Starts and reads subtasks."""

    async def start(self, parent: Attempt, spec: Any, input_: Blob) -> UUID:
        """Start the subtask of an attempt, once however often it is asked for.

        Raises:
            StepwireError: its graph is not valid, or its workflow does not exist.
        """

    async def read(self, parent: Attempt, task_id: UUID) -> Child:
        """Return what has become of a subtask."""


class SubtaskKind:
    """See `SubtaskStep` in graph.proto."""

    def __init__(self, subtasks: Subtasks) -> None:
        self._subtasks = subtasks

    async def run(self, call: StepCall) -> Any:
        if not call.came:
            if call.attempt.task.depth >= MAX_DEPTH:
                raise StepError(
                    f"tasks are nested deeper than {MAX_DEPTH}",
                    reason="NESTED_TOO_DEEP",
                    metadata={"limit": str(MAX_DEPTH)},
                )
            input_ = Blob(orjson.dumps(call.value), JSON)
            return _wait_for(await self._subtasks.start(call.attempt, call.spec, input_))
        task_id = UUID(orjson.loads(call.attempt.inbox or NULL))
        child = await self._subtasks.read(call.attempt, task_id)
        if not child.state.is_final:
            # It had failed, and was retried before this attempt could see it.
            return _wait_for(task_id)
        if child.state is TaskState.SUCCEEDED:
            return None if child.output is None else orjson.loads(child.output.data)
        why = "it was cancelled" if child.failure is None else child.failure.message
        raise StepError(
            f"task {task_id} ended as {child.state}: {why}",
            reason="SUBTASK_FAILED",
            retryable=child.state is TaskState.FAILED,
            metadata={"task_id": str(task_id), "state": child.state},
        )


def _wait_for(task_id: UUID) -> Waits:
    # The attempt that goes on must know which task it was.
    return Waits(f"task:{task_id}", keep=orjson.dumps(str(task_id)))
