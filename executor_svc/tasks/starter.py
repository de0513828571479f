"""Starting tasks on behalf of schedules and subscriptions, as CreateTask does."""

from uuid import UUID

from executor_svc.tasks.creator import Creator
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.steering import Steering
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.errors import Reason, StepwireError


class TaskStarter:
    """See the ports `Starter` of schedules and of subscriptions."""

    def __init__(self, intake: Intake, creator: Creator, steering: Steering) -> None:
        self._intake = intake
        self._creator = creator
        self._steering = steering

    async def check(
        self,
        request: CreateTaskRequest,
        *,
        tenant_id: str,
        field: str,
        own: bool = False,
        keep: bool = False,
        has_input: bool = True,
    ) -> None:
        await self._intake.read(
            request,
            tenant_id=tenant_id,
            prefix=f"{field}.",
            only_check=not keep,
            own=own,
            has_input=has_input,
        )

    async def start(
        self, request: CreateTaskRequest, *, tenant_id: str, depth: int = 0, notify: bool = True
    ) -> UUID:
        submission = await self._intake.read(
            request, tenant_id=tenant_id, own=True, depth=depth, notify=notify
        )
        (accepted,) = await self._creator.create([submission])
        return accepted.task_id

    async def cancel(self, task_id: UUID, *, tenant_id: str) -> None:
        try:
            await self._steering.cancel(task_id, tenant_id=tenant_id)
        except StepwireError as error:
            if error.reason not in (Reason.TASK_NOT_FOUND, Reason.TASK_STATE_CONFLICT):
                raise
