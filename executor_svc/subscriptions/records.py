"""Subscriptions and the events they are about, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

SUBSCRIPTION_LABEL: Final = "stepwire.subscription"
TASK_LABEL: Final = "stepwire.task"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An HTTP server that gets events.

    Attributes:
        key: signs deliveries.
        key_made_at: when it became the key.
        previous_key: signs them as well, until `previous_until`.
    """

    url: str
    key: bytes = field(repr=False)
    key_made_at: datetime
    previous_key: bytes | None = field(default=None, repr=False)
    previous_until: datetime | None = None

    def keys(self, now: datetime) -> Sequence[bytes]:
        """Return the keys that sign at a time, the newest first."""
        if self.previous_key is None or self.previous_until is None or now >= self.previous_until:
            return [self.key]
        return [self.key, self.previous_key]


@dataclass(frozen=True, slots=True)
class Handler:
    """A task that is started for each event: an encoded CreateTaskRequest."""

    request: bytes


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events go where; see subscription_service.proto.

    Attributes:
        events: numbers of TaskEventTypes.
        workflow: empty for any.
    """

    subscription_id: UUID
    tenant_id: str
    name: str
    events: Sequence[int]
    labels: Mapping[str, str]
    workflow: str
    target: Webhook | Handler
    include_output: bool
    paused: bool
    paused_because: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event of a task, with what subscriptions ask about the task.

    Attributes:
        type: number of the TaskEventType.
        failure: of a task that failed, as the record keeps it; else empty.
        depth: how many tasks above the task are its parents or the cause of it.
    """

    tenant_id: str
    task_id: UUID
    cursor: int
    type: int
    recorded_at: datetime
    labels: Mapping[str, str]
    workflow: str
    workflow_version: str
    failure: Mapping[str, Any]
    depth: int


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A call's request_id, and the SHA-256 of what it asks for."""

    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """A call that was made before: on which subscription, and when."""

    subscription_id: UUID
    made_at: datetime
