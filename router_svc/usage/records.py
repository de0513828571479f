"""What is written down of a try, and what comes of summing it up."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from router_svc.generate.records import UsageEntry


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be written down, and charged.

    Attributes:
        usage_id: Names it, so that it is written once.
        reservation_id: What is held for it; None when nothing is.
        entry: What was used; None when the call was not made, and for what only hurries.
    """

    usage_id: UUID
    reservation_id: UUID | None
    entry: UsageEntry | None


class Group(StrEnum):
    """What usage is summed up by; the values name columns."""

    PROJECT = "project"
    TASK = "task_id"
    STEP = "step_id"
    MODEL = "model"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


TIMES = (Group.HOUR, Group.DAY, Group.MONTH)
OF_TASKS = (Group.TASK, Group.STEP)


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage is to be summed up, and by what.

    Attributes:
        tenant_id: Whose it is.
        start: From when on; a full hour.
        end: Until when; a full hour.
        project: Only of this project; empty for all.
        task_id: Only of this task; empty for all.
        model: Only of this model; empty for all.
        groups: What it is summed up by; of TIMES at most one.
        skip: Sums that are left out at the beginning.
        limit: Most sums.
    """

    tenant_id: str
    start: datetime
    end: datetime
    project: str = ""
    task_id: str = ""
    model: str = ""
    groups: frozenset[Group] = frozenset()
    skip: int = 0
    limit: int = 50

    @property
    def about_tasks(self) -> bool:
        """Whether single tries must be looked at, since the hours know no tasks."""
        return bool(self.task_id) or any(group in self.groups for group in OF_TASKS)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What was used together; `period_start` is None when it is not summed up by time."""

    project: str
    task_id: str
    step_id: str
    model: str
    period_start: datetime | None
    calls: int
    answered: int
    cached: int
    estimated: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_micro_usd: int
