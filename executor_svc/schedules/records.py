"""What the store keeps of schedules, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from executor_svc.engine.records import Failure

MAX_RECENT = 10


class OverlapPolicy(StrEnum):
    """What happens to a firing while the last task runs; see schedule_service.proto."""

    SKIP = "SKIP"
    BUFFER_ONE = "BUFFER_ONE"
    ALLOW = "ALLOW"
    CANCEL_OTHER = "CANCEL_OTHER"


class Outcome(StrEnum):
    """What became of a firing; see schedule_service.proto."""

    STARTED = "STARTED"
    BUFFERED = "BUFFERED"
    SKIPPED = "SKIPPED"
    DROPPED = "DROPPED"
    MISSED = "MISSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Config:
    """What its owner decides of a schedule.

    Attributes:
        task: The encoded CreateTaskRequest of its tasks.
        catch_up_window: How late a firing may be.
        max_catch_up: Most firings that are made up for at once.
    """

    cron: str
    time_zone: str
    task: bytes
    overlap: OverlapPolicy
    catch_up_window: timedelta
    max_catch_up: int
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one firing.

    Attributes:
        nominal_at: When it was to be.
        until_at: For MISSED, stands for all firings from `nominal_at` to before this time.
        manual: Whether somebody asked for it.
    """

    nominal_at: datetime
    outcome: Outcome
    recorded_at: datetime
    task_id: UUID | None = None
    failure: Failure | None = None
    until_at: datetime | None = None
    manual: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the form in which the store keeps it."""
        known: dict[str, Any] = {
            "nominal_at": self.nominal_at.isoformat(),
            "outcome": self.outcome,
            "recorded_at": self.recorded_at.isoformat(),
            "task_id": None if self.task_id is None else str(self.task_id),
            "failure": None if self.failure is None else self.failure.to_json(),
            "until_at": None if self.until_at is None else self.until_at.isoformat(),
            "manual": self.manual,
        }
        return {name: value for name, value in known.items() if value}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Run":
        """Read what `to_json` made."""
        return Run(
            nominal_at=datetime.fromisoformat(data["nominal_at"]),
            outcome=Outcome(data["outcome"]),
            recorded_at=datetime.fromisoformat(data["recorded_at"]),
            task_id=UUID(data["task_id"]) if "task_id" in data else None,
            failure=Failure.from_json(data["failure"]) if "failure" in data else None,
            until_at=datetime.fromisoformat(data["until_at"]) if "until_at" in data else None,
            manual=data.get("manual", False),
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is recorded.

    Attributes:
        revision: One more with each change by its owner.
        next_at: The next firing; None when there is none any more, or while it is paused.
        due_at: The same with its jitter.
        last_task_id: The task it created last.
        buffered_at: The firing that waits for the end of that task, if one does.
        recent: What became of the last firings, newest first.
    """

    schedule_id: UUID
    tenant_id: str
    name: str
    config: Config
    paused: bool = False
    note: str = ""
    revision: int = 1
    next_at: datetime | None = None
    due_at: datetime | None = None
    last_task_id: UUID | None = None
    buffered_at: datetime | None = None
    recent: Sequence[Run] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A schedule that nobody else may change for a while.

    Attributes:
        holder: Who holds it: what is written in another's name is refused.
        running: Whether the task it created last has not ended.
        lost: Whether somebody held it before who has not given it back.
        now: The record's time when it was taken.
    """

    schedule: Schedule
    holder: UUID
    running: bool
    lost: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """What makes a repeated call known.

    Attributes:
        request_id: Chosen by the caller.
        digest: Of the whole request, to tell it from another with the same id.
    """

    tenant_id: str
    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was carried out.

    Attributes:
        made_at: When it was first made.
        run: What a trigger has come to; None for one whose executor died, too.
    """

    schedule_id: UUID
    made_at: datetime
    run: Run | None = None


def with_runs(recent: Sequence[Run], runs: Sequence[Run]) -> Sequence[Run]:
    """Put what became of firings in front of the recent ones, oldest of them first.

    A firing that has waited is there once: as what became of it.
    """
    settled = {run.nominal_at for run in runs}
    kept = [
        run for run in recent if not (run.outcome == Outcome.BUFFERED and run.nominal_at in settled)
    ]
    return [*reversed(runs), *kept][:MAX_RECENT]
