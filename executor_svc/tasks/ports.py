"""What a task's owner can have done needs of the world."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from executor_svc.engine.ports import Effects, Existing, RequestKey
from executor_svc.engine.records import (
    Blob,
    NewTask,
    Place,
    StepAddress,
    StepRecord,
    TaskEvent,
    TaskRecord,
)
from executor_svc.graphs.graph import Graph
from executor_svc.tasks.filters import IdRange, TaskFilter
from executor_svc.tasks.retry import Left, Reset


@dataclass(frozen=True, slots=True)
class Signal:
    """What SignalTask sends; the payload is JSON."""

    name: str
    payload: bytes
    request_id: str


class AttemptsOverError(Exception):
    """Attempts that were to make subtasks do not run any more."""

    def __init__(self, tasks: Collection[UUID]) -> None:
        """Name the subtasks that they were to make."""
        super().__init__("the attempts that were to make subtasks do not run any more")
        self.tasks = tasks


class NewTaskStore(Protocol):
    """Creates tasks."""

    async def find(self, tasks: Sequence[NewTask]) -> Mapping[RequestKey, Existing]:
        """Return the tasks that the request_ids of `tasks` belong to already."""

    async def create(self, tasks: Sequence[NewTask], *, unpublished: Collection[str]) -> bool:
        """Create tasks in one commit; ready steps of `unpublished` queues wait in the record.

        Returns:
            False, without creating any, when a request_id belongs to a task by now.

        Raises:
            AttemptsOverError: without creating any; nobody would wait for some of them.
        """

    async def add_graphs(self, graphs: Sequence[Graph]) -> None:
        """Store graphs; those that are known are passed over."""


RetryPlan = Callable[[Sequence[Left]], Sequence[Reset]]
"""See `executor_svc.tasks.retry.plan_retry`."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a task runs that is in the record; the workflow is empty for a graph of its own."""

    graph_hash: bytes
    workflow: str
    workflow_version: str


class GraphReader(Protocol):
    """Reads graphs."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """Return a graph's canonical encoding."""


class RequestReader(GraphReader, Protocol):
    """Reads what requests have made."""

    async def made(self, tenant_id: str, request_id: str) -> Made | None:
        """Return what the task runs that a request_id has made."""


class TaskReader(GraphReader, Protocol):
    """Reads tasks."""

    async def get(
        self, task_id: UUID, *, tenant_id: str, with_input: bool = False
    ) -> TaskRecord | None:
        """Return a task of a tenant."""

    async def get_with_outputs(
        self, task_id: UUID, step_ids: Sequence[str], *, tenant_id: str
    ) -> tuple[TaskRecord, Sequence[Blob | None]] | None:
        """Return a task of a tenant and the outputs of some of its steps, by one look."""

    async def list(
        self, wanted: TaskFilter, ids: IdRange, *, tenant_id: str, limit: int
    ) -> Sequence[TaskRecord]:
        """Return a tenant's tasks with these ids, newest first, without graph and input."""

    async def find_ids(
        self, wanted: TaskFilter, ids: IdRange, *, tenant_id: str, limit: int
    ) -> Sequence[UUID]:
        """Return which of a tenant's tasks with these ids there are, oldest first."""

    async def steps(self, task_id: UUID, *, outputs: bool) -> Sequence[StepRecord]:
        """Return a task's steps; with `outputs` also what they reported last."""

    async def outputs(self, wanted: Sequence[StepAddress]) -> Sequence[Blob | None]:
        """Return outputs of steps; that of a for_each step is the list of its items'."""

    async def events(self, task: TaskRecord, *, after: int, limit: int) -> Sequence[TaskEvent]:
        """Return a task's events behind a cursor, in order."""


class TaskStore(NewTaskStore, RequestReader, TaskReader, Protocol):
    """Creates, reads and changes tasks.

    What changes a task returns None when the task's state does not allow it, or when the
    same request did it before.
    """

    async def cancel(self, task_id: UUID) -> Effects | None:
        """Cancel a task that is not final."""

    async def pause(self, task_id: UUID, *, request_id: str) -> Effects | None:
        """Hold a task that is neither final nor paused, unless `request_id` paused it last."""

    async def resume(self, task_id: UUID, *, request_id: str) -> Effects | None:
        """Let a paused task go on, unless `request_id` resumed it last."""

    async def retry(
        self, task_id: UUID, *, request_id: str, place: Place | None, plan: RetryPlan
    ) -> Effects | None:
        """Continue a task that has failed, unless `request_id` continued it last.

        One that needs a place under its concurrency key waits for it first. `plan` says
        what begins anew besides the steps that failed by themselves.
        """

    async def signal(self, task_id: UUID, signal: Signal) -> Effects | None:
        """Send a signal to a task that is not final."""

    async def find_signal(self, task_id: UUID, request_id: str) -> Signal | None:
        """Return the signal that a request_id has sent to a task."""

    async def added_graphs(self, task_id: UUID) -> Sequence[bytes]:
        """Return the hashes of the graphs that a task's steps have added."""

    async def fork(self, task: NewTask, kept: Sequence[str], *, source: UUID) -> bool:
        """Create a task that keeps steps of another one, with their items and what they added.

        Returns:
            False, without creating it, when its request_id belongs to a task by now, or a step
            that it was to keep is not over any more: the other task was retried.

        Raises:
            StepwireError: TASK_NOT_FOUND, when the other one is not there any more.
        """

    async def made_by(
        self, task_ids: Sequence[UUID], *, tenant_id: str, prefix: str
    ) -> Sequence[UUID]:
        """Return which of the tasks were made by a request_id that begins with `prefix`."""

    async def wake_parent(self, parent: StepAddress, child: UUID) -> Effects:
        """Wake the step that waits for a subtask that has ended."""
