"""Which tasks somebody asks for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import orjson

from executor_svc.engine.records import TaskState
from executor_svc.tasks.task_ids import FIRST_ID, LAST_ID, first_id_at

# States that tasks are indexed by; see tasks.mark.
MARKED = frozenset({TaskState.PAUSED, TaskState.FAILED, TaskState.CANCELLED})
# States of tasks that have steps which are alive.
ALIVE = frozenset({TaskState.PENDING, TaskState.RUNNING, TaskState.WAITING})


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Selects the tasks that meet every condition given; see executor_service.proto.

    Attributes:
        created_from: None for any time; so `created_before`.
    """

    state: TaskState | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    workflow: str = ""
    workflow_version: str = ""
    failure_reason: str = ""
    created_from: datetime | None = None
    created_before: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it selects all tasks."""
        return self == TaskFilter()

    @property
    def mark(self) -> TaskState | None:
        """The mark that all tasks selected have; None if they need not have one."""
        if self.failure_reason:
            return TaskState.FAILED
        return self.state if self.state in MARKED else None

    @property
    def selects_nothing(self) -> bool:
        """Whether its conditions contradict each other."""
        return bool(self.failure_reason) and self.state not in (None, TaskState.FAILED)

    @property
    def ids(self) -> "IdRange":
        """The ids of tasks made in its span of time."""
        return IdRange(
            FIRST_ID if self.created_from is None else first_id_at(self.created_from),
            LAST_ID if self.created_before is None else first_id_at(self.created_before),
        )

    @property
    def key(self) -> str:
        """A text that no other filter has."""
        return orjson.dumps(
            [
                self.state,
                self.labels,
                self.workflow,
                self.workflow_version,
                self.failure_reason,
                self.created_from,
                self.created_before,
            ],
            option=orjson.OPT_SORT_KEYS,
        ).decode()


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids from `first` to before `end`."""

    first: UUID
    end: UUID

    def before(self, task_id: UUID | None) -> "IdRange":
        """Return the part of it before an id; None for all of it."""
        return self if task_id is None else IdRange(self.first, min(self.end, task_id))

    def since(self, task_id: UUID) -> "IdRange":
        """Return the part of it from an id on."""
        return IdRange(max(self.first, task_id), self.end)
