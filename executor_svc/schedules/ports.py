"""What schedules need of the world."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from executor_svc.schedules.records import Answered, Held, Request, Run, Schedule
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest

Change = Callable[[Schedule, datetime], Schedule]
"""Gives what a schedule is to be from what it is, and from the present; raises to refuse."""


class Busy(Exception):  # noqa: N818 - no error: the call is made again
    """A firing of the schedule is being carried out."""


class ScheduleStore(Protocol):
    """Keeps schedules.

    A schedule is held by whoever carries out a firing of it, for a while that ends by itself
    if that one dies. Its owner's changes wait meanwhile, and so do other firings.

    What changes a schedule takes the call's Request, if it has one, and returns the Answered
    of an earlier call with the same one, having done nothing; it raises REQUEST_ID_REUSED if
    that was about something else.
    """

    async def now(self) -> datetime:
        """Return the time by which everything is decided."""

    async def add(
        self, schedule: Schedule, request: Request | None, *, limit: int
    ) -> Schedule | Answered:
        """Add a schedule.

        Raises:
            StepwireError: SCHEDULE_EXISTS, or FIELD_INVALID when the tenant has `limit` of
                them already.
        """

    async def find(self, tenant_id: str, name: str) -> Schedule | None:
        """Return a schedule by its name."""

    async def get(self, tenant_id: str, schedule_id: UUID) -> Schedule | None:
        """Return a schedule by its id."""

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Schedule]:
        """Return a tenant's schedules behind a name, by name, without tasks and runs."""

    async def change(
        self, tenant_id: str, name: str, change: Change, request: Request | None
    ) -> Schedule | Answered:
        """Have `change` made to a schedule; return what came of it.

        Raises:
            Busy: it is held.
            StepwireError: SCHEDULE_NOT_FOUND, or what `change` raises.
        """

    async def delete(
        self, tenant_id: str, name: str, check: Callable[[Schedule], None], request: Request | None
    ) -> None:
        """Delete a schedule, unless `check` raises.

        Raises:
            Busy: it is held.
            StepwireError: SCHEDULE_NOT_FOUND, or what `check` raises.
        """

    async def answered(self, request: Request) -> Answered | None:
        """Return the earlier call with the same request, if there was one."""

    async def take_due(self, *, limit: int, lease: timedelta) -> Sequence[Held]:
        """Hold schedules that have something to carry out now."""

    async def take(self, tenant_id: str, name: str, *, lease: timedelta) -> Held:
        """Hold a schedule.

        Raises:
            Busy: somebody else holds it.
            StepwireError: SCHEDULE_NOT_FOUND.
        """

    async def begun(self, schedule: Schedule) -> Mapping[datetime, UUID]:
        """Return the tasks of firings that a schedule has not considered yet, or that wait."""

    async def record(self, firings: Sequence[tuple[Held, Schedule]]) -> None:
        """Write what became of firings, and give the schedules back.

        What is held by somebody else by now is left to that one.
        """

    async def begin_trigger(self, held: Held, request: Request) -> Answered:
        """Remember a trigger that is to be carried out; return its call, or the first like it."""

    async def record_trigger(
        self, held: Held, schedule: Schedule, run: Run, request: Request
    ) -> None:
        """Do as `record` for a trigger, and remember what its call has come to."""

    async def put_back(self, held: Sequence[Held], *, pause: timedelta) -> None:
        """Give schedules back as they were; nobody takes them for the time of `pause`."""

    async def until_due(self) -> timedelta | None:
        """How long it is until the next firing; None when there is none."""

    async def awaited(self) -> frozenset[UUID]:
        """Return the tasks for whose end firings wait."""


class Starter(Protocol):
    """Starts tasks as CreateTask does, and cancels them."""

    async def check(
        self,
        request: CreateTaskRequest,
        *,
        tenant_id: str,
        field: str,
        own: bool = False,
        keep: bool = False,
    ) -> None:
        """Check a request without creating its task.

        Args:
            request: the request.
            tenant_id: whose it is.
            field: path of the request, for errors.
            own: whether it has labels of the server's own.
            keep: whether the workflow that it names is recorded as used, so that the version
                stays what it is.

        Raises:
            StepwireError: what CreateTask would raise, naming fields below `field`.
        """

    async def start(self, request: CreateTaskRequest, *, tenant_id: str) -> UUID:
        """Accept a task; a request_id that is known gives the task it has.

        Raises:
            StepwireError: as CreateTask.
        """

    async def cancel(self, task_id: UUID, *, tenant_id: str) -> None:
        """Cancel a task; one that has ended, or is gone, is left as it is."""
