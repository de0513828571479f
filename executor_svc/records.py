"""What the store keeps and gives, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class TaskState(StrEnum):
    """State of a task; see task.proto."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
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
    CANCELLED = "CANCELLED"


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
    """A step that gets its row with its task."""

    step_id: str
    ordinal: int
    dependencies: int
    queue: str


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create."""

    task_id: UUID
    tenant_id: str
    request_id: str | None
    graph_hash: bytes
    open_sinks: int
    input: Blob
    labels: Mapping[str, str]
    traceparent: str
    created_at: datetime
    steps: Sequence[NewStep]


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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a step, claimed for a worker session.

    Attributes:
        item: index of the item; None for a step that is not an item.
        items: number of items, once a for_each step has started them; else None.
        item_input: the item's value as JSON; None for a step that is not an item.
        failures: attempts of this step that failed before.
    """

    task: TaskContext
    step_id: str
    ordinal: int
    attempt: int
    item: int | None = None
    items: int | None = None
    item_input: bytes | None = None
    failures: int = 0


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
    graph_hash: bytes = b""
    input: Blob | None = None
    retry_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step as it is recorded."""

    step_id: str
    ordinal: int
    item: int | None
    items: int | None
    state: StepState
    attempt: int
    queue: str
    due_at: datetime | None
    failure: Failure | None
    started_at: datetime | None
    ended_at: datetime | None
    output: Blob | None


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
