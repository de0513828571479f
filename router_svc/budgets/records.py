"""What a budget is, and how its accounts stand."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from router_svc.generate.records import Caller

AccountKey = tuple[UUID, str]
"""Names an account of the present period: the budget, and what it is split by."""


class Period(StrEnum):
    """The time after which a budget begins anew; by the calendar, in UTC."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    TOTAL = "TOTAL"


class Split(StrEnum):
    """What has an account of its own within a budget."""

    NONE = "NONE"
    PROJECT = "PROJECT"
    TASK = "TASK"
    MODEL = "MODEL"


class Action(StrEnum):
    """What becomes of a call that could cost more than is left."""

    CHEAPER_MODEL = "CHEAPER_MODEL"
    REFUSE = "REFUSE"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of a tenant's calls a budget covers; empty means any."""

    project: str = ""
    task_id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What its owner decides of a budget.

    Attributes:
        scope: Which calls it covers.
        period: When it begins anew.
        split: What has an account of its own.
        limit_micro_usd: What each account may spend in a period, in millionths of a dollar.
        alarm_percents: Shares of the limit at which an alarm is raised, rising.
        shadow: Whether it only counts.
        on_exhausted: What becomes of a call that could cost more than is left.
    """

    period: Period
    limit_micro_usd: int
    scope: Scope = Scope()
    split: Split = Split.NONE
    alarm_percents: tuple[int, ...] = ()
    shadow: bool = False
    on_exhausted: Action = Action.CHEAPER_MODEL


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as it is recorded; `revision` is one more with each change by its owner."""

    budget_id: UUID
    tenant_id: str
    name: str
    config: Config
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        """Changes with every change by its owner."""
        return f"{self.budget_id.hex[-8:]}-{self.revision}"

    def key_for(self, caller: Caller, model: str) -> str | None:
        """Returns which of its accounts a call needs; None when it does not cover the call."""
        scope = self.config.scope
        if (
            (scope.project and scope.project != caller.project)
            or (scope.task_id and scope.task_id != caller.task_id)
            or (scope.model and scope.model != model)
        ):
            return None
        match self.config.split:
            case Split.NONE:
                return ""
            case Split.PROJECT:
                return caller.project or None
            case Split.TASK:
                return caller.task_id or None
            case Split.MODEL:
                return model


@dataclass(frozen=True, slots=True)
class Account:
    """What was spent by one account of a budget in one period, in millionths of a dollar.

    Attributes:
        key: The project, task or model that it is for; empty without a split.
        period_start: When the period began; None for one that never ends.
        period_end: When it ends; None for never.
        spent: What was spent.
        reserved: What is held for calls under way.
        left: What is left of the limit.
        refusals: Tries that found too little left.
        alarmed_percent: The highest share of which an alarm was raised; 0 for none.
        lost: What of `spent` was charged because nobody settled it.
    """

    key: str
    period_start: datetime | None
    period_end: datetime | None
    spent: int = 0
    reserved: int = 0
    left: int = 0
    refusals: int = 0
    alarmed_percent: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands after calls were held for in it, or refused.

    Attributes:
        limit: What may be spent.
        left: What is left of it.
        ends_at: When it begins anew; None for never.
        refused: The places of the calls that it refused.
    """

    limit: int
    left: int
    ends_at: datetime | None
    refused: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """That an account has reached a share of its limit."""

    budget_id: UUID
    key: str
    percent: int
    spent_micro_usd: int
    limit_micro_usd: int


@dataclass(frozen=True, slots=True)
class Change:
    """That a budget was made or changed; or deleted, when `budget` is None.

    Attributes:
        budget_id: Its id.
        tenant_id: Whose it is.
        version: Rises with each change, over all budgets.
        budget: What it is now.
    """

    budget_id: UUID
    tenant_id: str
    version: int
    budget: Budget | None
