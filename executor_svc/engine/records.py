"""What the store keeps and gives, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, IntFlag, StrEnum
from typing import Any
from uuid import UUID


class TaskState(StrEnum):
    """State of a task; see task.proto."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


class StepState(StrEnum):
    """State of a step; see task.proto."""

    BLOCKED = "BLOCKED"
    READY = "READY"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


class Trait(IntFlag):
    """What a task's end means for others, and what its graph asks for; see tasks.traits."""

    NONE = 0
    CHILD = 1
    KEYED = 2
    SUBSCRIBED = 4
    PARENT = 8
    LEAVES_STEPS = 16
    COMPENSATES = 32


class Phase(IntEnum):
    """How far a step has come before an attempt of it; see steps.phase."""

    NEW = 0
    PLACED = 1
    """It has its place under its limit."""
    CAME = 2
    """What it waited for has come."""
    UNSATISFIED = 3
    """Its join cannot be satisfied."""
    EXPIRED = 4
    """Its schedule_to_close is over."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A value as bytes with their content type."""

    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, a step or a task failed; see task.proto."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    step_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form in which the store keeps it."""
        known = {
            "reason": self.reason,
            "message": self.message,
            "metadata": dict(self.metadata),
            "step_id": self.step_id,
        }
        return {name: value for name, value in known.items() if value}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Failure":
        """Read what `to_json` made."""
        return Failure(
            reason=data.get("reason", ""),
            message=data.get("message", ""),
            metadata=data.get("metadata", {}),
            step_id=data.get("step_id", ""),
        )


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step that gets its row with its task: one that can start, or a join."""

    step_id: str
    ordinal: int
    needs: int
    open: int
    queue: str
    priority: int
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a task asks of its concurrency key; `policy` is the ConcurrencyPolicy's number."""

    key: str
    max_running: int
    policy: int


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create.

    Attributes:
        digest: SHA-256 of what the request asked for; what a request_id stands for.
        start_after: when its first steps may start; None for at once.
        deadline: when it fails if it has not ended; None for never.
        timeout: how long it may last, from when it may start; None for no limit.
        place: its concurrency key; its steps are held until it has its place.
        parent: the attempt whose subtask it is.
    """

    task_id: UUID
    tenant_id: str
    request_id: str | None
    digest: bytes
    graph_hash: bytes
    open_sinks: int
    traits: Trait
    priority: int
    input: Blob
    labels: Mapping[str, str]
    traceparent: str
    created_at: datetime
    steps: Sequence[NewStep]
    start_after: datetime | None = None
    deadline: datetime | None = None
    timeout: timedelta | None = None
    place: Place | None = None
    workflow: str = ""
    workflow_version: str = ""
    parent: "StepRef | None" = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class StepAddress:
    """Names a step, whatever its attempt."""

    task_id: UUID
    step_id: str


@dataclass(frozen=True, slots=True)
class StepRef:
    """Names one attempt of a step: what a message carries."""

    task_id: UUID
    step_id: str
    attempt: int
    queue: str


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What an attempt needs to know of its task."""

    task_id: UUID
    tenant_id: str
    graph_hash: bytes
    input: Blob
    traceparent: str
    priority: int
    depth: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a step stands that was added at run time.

    Attributes:
        step_id: the step that added it.
        graph_hash: the graph that it added.
        input: the input of that graph.
    """

    step_id: str
    graph_hash: bytes
    input: Blob


@dataclass(slots=True)
class Attempt:
    """One try of a step, claimed for a worker session. Not to be changed.

    Attributes:
        item: index of the item; None for a step that is not an item.
        items: number of items or added sinks, once the step has started them; else None.
        item_input: the item's value as JSON; None for a step that is not an item.
        inbox: what it waited for, as JSON; for a step that has added steps, their input.
        added_graph: the graph that it has added; None for any other.
        failures: attempts of this step that failed before.
        losses: attempts of this step that were lost with their worker.
        heartbeat: what the attempt before reported last, as JSON.
        expires_at: end of the step's schedule_to_close.
        ready_at: since when it could be claimed; None for one that was never in the queue.
        scope: for a step that was added at run time.
    """

    task: TaskContext
    step_id: str
    ordinal: int
    attempt: int
    phase: Phase = Phase.NEW
    item: int | None = None
    items: int | None = None
    item_input: bytes | None = None
    inbox: bytes | None = None
    added_graph: bytes | None = None
    failures: int = 0
    losses: int = 0
    heartbeat: bytes | None = None
    expires_at: datetime | None = None
    ready_at: datetime | None = None
    queue: str = ""
    scope: Scope | None = None

    @property
    def graph_hash(self) -> bytes:
        """The graph of which this is a step."""
        return self.task.graph_hash if self.scope is None else self.scope.graph_hash

    @property
    def input(self) -> Blob:
        """What expressions see as `input`."""
        return self.task.input if self.scope is None else self.scope.input

    def sibling(self, name: str) -> str:
        """Id of another step of the same graph."""
        return name if self.scope is None else f"{self.scope.step_id}/{name}"


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has succeeded, as far as undoing it needs it.

    Attributes:
        scope: the step that has added it; None for a step of the task's own graph.
        graph_hash: the graph in which that one has added it.
    """

    step_id: str
    ordinal: int
    item: int | None
    scope: str | None = None
    graph_hash: bytes | None = None

    def sibling(self, name: str) -> str:
        """Id of another step of the same graph."""
        return name if self.scope is None else f"{self.scope}/{name}"


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of one task that one transaction recorded.

    `events` is the JSON text of [[type, step_id, attempt, detail?], …]; the last one has
    the cursor `last_cursor`.
    """

    task_id: UUID
    last_cursor: int
    recorded_at: datetime
    events: str


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it is recorded."""

    task_id: UUID
    tenant_id: str
    state: TaskState
    labels: Mapping[str, str]
    failure: Failure | None
    traceparent: str
    last_cursor: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    priority: int
    workflow: str = ""
    workflow_version: str = ""
    parent: StepAddress | None = None
    forked_from: UUID | None = None
    deadline: datetime | None = None
    timeout: timedelta | None = None
    traits: Trait = Trait.NONE
    graph_hash: bytes = b""
    input: Blob | None = None
    retry_request_id: str | None = None
    pause_request_id: str | None = None
    resume_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step as it is recorded; `scope` and `graph_hash` are those of `Done`."""

    step_id: str
    ordinal: int
    item: int | None
    items: int | None
    state: StepState
    attempt: int
    queue: str
    waits_for: str
    due_at: datetime | None
    failure: Failure | None
    started_at: datetime | None
    ended_at: datetime | None
    output: Blob | None
    heartbeat: Blob | None = None
    scope: str = ""
    graph_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event of a task; `type` is the number of the TaskEventType."""

    task_id: UUID
    cursor: int
    type: int
    step_id: str
    attempt: int
    detail: Mapping[str, Any]
    recorded_at: datetime
