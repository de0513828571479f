"""Queues, workers and failed steps as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from executor_svc.engine.records import Failure, TaskState


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the record has of a queue's steps.

    Attributes:
        oldest_ready_at: since when the step that has been ready longest has been so.
        waiting: steps that wait for a time.
    """

    ready: int = 0
    running: int = 0
    waiting: int = 0
    oldest_ready_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TenantWeight:
    """What part of a queue a tenant gets while others wait too."""

    tenant_id: str
    weight: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened in a queue during a span of time.

    Attributes:
        arrived: steps that became ready.
        started: attempts that were claimed.
        finished: attempts that ended, whatever the outcome.
        failed: those of `finished` that failed.
        wait_seconds: from ready to start, over all that started.
        busy_seconds: for which slots were held, over all that ended.
    """

    arrived: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    wait_seconds: float = 0.0
    busy_seconds: float = 0.0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.arrived + other.arrived,
            self.started + other.started,
            self.finished + other.finished,
            self.failed + other.failed,
            self.wait_seconds + other.wait_seconds,
            self.busy_seconds + other.busy_seconds,
        )


@dataclass(frozen=True, slots=True)
class RecentTraffic:
    """A queue's traffic of late: `minute` over `minute_span`, and `hour`, which includes it."""

    minute: Traffic
    hour: Traffic
    minute_span: timedelta


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker session that is alive."""

    session_id: UUID
    name: str
    queues: Sequence[str]
    slots: int
    busy: int
    version: str
    started_at: datetime
    expires_at: datetime
    draining: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """That a queue is paused."""

    note: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All queues and workers at one time; what a queue has none of is left out."""

    taken_at: datetime
    backlogs: Mapping[str, Backlog]
    traffic: Mapping[str, RecentTraffic]
    pauses: Mapping[str, Pause]
    workers: Sequence[WorkerRecord]


@dataclass(frozen=True, slots=True)
class FailedFilter:
    """Selects failed steps: those that meet every condition that is not None."""

    reason: str | None = None
    queue: str | None = None
    workflow: str | None = None
    failed_from: datetime | None = None
    failed_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed for good; `workflow` is empty for an inline graph."""

    task_id: UUID
    step_id: str
    queue: str
    workflow: str
    attempt: int
    failure: Failure
    ended_at: datetime
    task_state: TaskState
