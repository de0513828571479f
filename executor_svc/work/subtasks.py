"""Starting and reading the tasks that steps start."""

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from executor_svc.engine.records import Attempt, Blob, StepRef
from executor_svc.steps.subtask import Child
from executor_svc.tasks.creator import Creator, Submission
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.tasks import Tasks
from executor_svc.work.patience import outlast
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest


class RecordSubtasks:
    """See `executor_svc.steps.subtask.Subtasks`."""

    def __init__(self, intake: Intake, creator: Creator, tasks: Tasks) -> None:
        self._intake = intake
        self._creator = creator
        self._tasks = tasks

    async def start(self, parent: Attempt, spec: Any, input_: Blob) -> UUID:
        submission = await self._submission(parent, spec, input_)
        (accepted,) = await outlast(
            lambda: self._creator.create([submission]), as_long_as=lambda: True
        )
        return accepted.task_id

    async def _submission(self, parent: Attempt, spec: Any, input_: Blob) -> Submission:
        request = CreateTaskRequest(request_id=_request_id(parent), priority=parent.task.priority)
        if spec.HasField("graph"):
            request.graph.CopyFrom(spec.graph)
        else:
            request.workflow.CopyFrom(spec.workflow)
        # As it is: in the natural form, large whole numbers would become other ones.
        request.input.data, request.input.content_type = input_.data, input_.content_type
        submission = await self._intake.read(
            request,
            tenant_id=parent.task.tenant_id,
            prefix="subtask.",
            parent=StepRef(parent.task.task_id, parent.step_id, parent.attempt, parent.queue),
            depth=parent.task.depth + 1,
        )
        # An attempt that was lost may have been given something else by an early join: it has
        # started the subtask all the same.
        submission = replace(submission, digest=b"")
        if not submission.traceparent:
            submission = replace(submission, traceparent=parent.task.traceparent)
        return submission

    async def read(self, parent: Attempt, task_id: UUID) -> Child:
        view = await outlast(
            lambda: self._tasks.view(task_id, tenant_id=parent.task.tenant_id),
            as_long_as=lambda: True,
        )
        return Child(view.task.state, view.output, view.task.failure)


def _request_id(parent: Attempt) -> str:
    """Name the subtask of an attempt: another one than that for which the step has waited last.

    An attempt that was lost, or failed before it could tell for what it waits, may have started
    its subtask: the next one finds it.
    """
    step = hashlib.sha256(parent.step_id.encode()).hexdigest()[:16]
    before = "" if parent.inbox is None else str(orjson.loads(parent.inbox))
    return f"subtask/{parent.task.task_id}/{step}/{before}"
