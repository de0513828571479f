"""What the executor's domain needs of the world."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from executor_svc.graph import Graph
from executor_svc.records import (
    Attempt,
    Blob,
    EventBatch,
    NewTask,
    StepRecord,
    StepRef,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from executor_svc.state_machine import Settlement

RequestKey = tuple[str, str | None]
"""Tenant and request_id; without a request_id the task has no key of its own."""


@dataclass(frozen=True, slots=True)
class Existing:
    """The task that a request_id belongs to already."""

    task_id: UUID
    graph_hash: bytes
    input: bytes


@dataclass(frozen=True, slots=True)
class Effects:
    """What a transition asks for after its commit."""

    ready: Sequence[StepRef] = ()
    events: Sequence[EventBatch] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a settlement.

    Attributes:
        accepted: whether it was recorded; False when the attempt no longer ran the step.
        continued: the step that follows, claimed for the same session, if any.
    """

    accepted: bool
    continued: Attempt | None = None


class TaskStore(Protocol):
    """Creates, reads and changes tasks."""

    async def find(self, tasks: Sequence[NewTask]) -> Mapping[RequestKey, Existing]:
        """Return the tasks that the request_ids of `tasks` belong to already."""

    async def create(self, tasks: Sequence[NewTask]) -> bool:
        """Create tasks in one commit.

        Returns:
            False, without creating any, when a request_id belongs to a task by now.
        """

    async def add_graphs(self, graphs: Sequence[Graph]) -> None:
        """Store graphs; those that are known are passed over."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """Return a graph's canonical encoding."""

    async def get(self, task_id: UUID, *, tenant_id: str) -> TaskRecord | None:
        """Return a task of a tenant."""

    async def list(
        self,
        *,
        tenant_id: str,
        before: UUID | None,
        state: TaskState | None,
        labels: Mapping[str, str],
        limit: int,
    ) -> Sequence[TaskRecord]:
        """Return a tenant's tasks, newest first."""

    async def steps(self, task_id: UUID, *, outputs: bool) -> Sequence[StepRecord]:
        """Return a task's steps in the order of its graph, items behind their step."""

    async def outputs(self, wanted: Sequence[tuple[UUID, str]]) -> Sequence[Blob | None]:
        """Return outputs of steps; that of a for_each step is the list of its items'."""

    async def events(self, task: TaskRecord, *, after: int, limit: int) -> Sequence[TaskEvent]:
        """Return a task's events behind a cursor, in order."""

    async def cancel(self, task_id: UUID) -> Effects | None:
        """Cancel a task; None if it is final already."""

    async def retry(self, task_id: UUID, *, request_id: str | None) -> Effects | None:
        """Continue a task; None if it is not FAILED, or `request_id` continued it last."""


class StepStore(Protocol):
    """Gives steps to workers and records what came of them."""

    async def claim(
        self, session_id: UUID, refs: Sequence[StepRef]
    ) -> tuple[Sequence[Attempt | None], Effects]:
        """Claim ready steps; None for each that is not to be run (any more)."""

    async def settle(
        self, session_id: UUID, settlements: Sequence[Settlement]
    ) -> tuple[Sequence[Settled], Effects]:
        """Record how attempts ended, all in one commit."""

    async def give_back_unknown(
        self, session_id: UUID, known: Collection[tuple[UUID, str]], *, older_than: timedelta
    ) -> Effects:
        """Make ready again what the session is recorded to run, but is not known to run."""

    async def outputs(self, wanted: Sequence[tuple[UUID, str]]) -> Sequence[Blob | None]:
        """See TaskStore."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """See TaskStore."""


class SweepStore(Protocol):
    """Finds what nothing else would wake."""

    async def expire_sessions(self) -> Effects:
        """Give back the steps of sessions whose lease has run out."""

    async def ready_due(self) -> Effects:
        """Make ready the steps whose next attempt is due."""

    async def republish(self, patience: Mapping[str, timedelta]) -> Effects:
        """Return steps that have stayed ready too long.

        `patience` has the queues to look into, and for each how long a step of it must be
        overdue.
        """

    async def next_due(self) -> datetime | None:
        """When the next attempt is due."""


class SessionStore(Protocol):
    """Keeps worker sessions."""

    async def open(self, session_id: UUID, *, worker: str, lease: timedelta) -> None:
        """Open a session."""

    async def renew(self, session_id: UUID, *, lease: timedelta) -> bool:
        """Renew its lease; False when it has run out."""

    async def close(self, session_id: UUID) -> None:
        """End its lease at once."""


class Wakeups(Protocol):
    """Tells workers that steps are ready."""

    async def publish(self, refs: Sequence[StepRef]) -> None:
        """Send messages for steps; returns once the broker has them."""

    async def backlog(self, queue: str) -> int:
        """Number of messages that wait in a queue."""


class EventBus(Protocol):
    """Carries the events of committed transitions to whoever watches."""

    async def publish(self, batches: Sequence[EventBatch]) -> None:
        """Send events; a lost message is made good from the record."""

    async def publish_cancelled(self, batches: Sequence[EventBatch]) -> None:
        """Send the events of cancelled tasks, which workers listen to."""

    async def subscribe(self, callback: Callable[[Sequence[EventBatch]], None]) -> None:
        """Have `callback` called with all events from now on."""

    async def subscribe_cancelled(self, callback: Callable[[Sequence[EventBatch]], None]) -> None:
        """Have `callback` called with the events of cancelled tasks from now on."""
