"""Starting and reading the tasks that steps start."""

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

from executor_svc.engine.records import Attempt, Blob, StepAddress
from executor_svc.steps.subtask import Child
from executor_svc.tasks.creator import Creator
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.tasks import Tasks
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.payload import decode


class RecordSubtasks:
    """See `executor_svc.steps.subtask.Subtasks`."""

    def __init__(self, intake: Intake, creator: Creator, tasks: Tasks) -> None:
        self._intake = intake
        self._creator = creator
        self._tasks = tasks

    async def start(self, parent: Attempt, spec: Any, input_: Blob) -> UUID:
        request = CreateTaskRequest(request_id=_request_id(parent), priority=parent.task.priority)
        if spec.HasField("graph"):
            request.graph.CopyFrom(spec.graph)
        else:
            request.workflow.CopyFrom(spec.workflow)
        decode(input_.data, input_.content_type, request.input)
        submission = await self._intake.read(
            request,
            tenant_id=parent.task.tenant_id,
            prefix="subtask.",
            parent=StepAddress(parent.task.task_id, parent.step_id),
            depth=parent.task.depth + 1,
        )
        if not submission.traceparent:
            submission = replace(submission, traceparent=parent.task.traceparent)
        (accepted,) = await self._creator.create([submission])
        return accepted.task_id

    async def read(self, parent: Attempt, task_id: UUID) -> Child:
        view = await self._tasks.view(task_id, tenant_id=parent.task.tenant_id)
        return Child(view.task.state, view.output, view.task.failure)


def _request_id(parent: Attempt) -> str:
    """Name the subtask of an attempt: another one for each that was not lost before."""
    step = hashlib.sha256(parent.step_id.encode()).hexdigest()[:16]
    return f"subtask/{parent.task.task_id}/{step}/{parent.attempt - parent.losses}"
