"""What the operations of queues need of the world."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from executor_svc.queues.records import (
    FailedFilter,
    FailedStep,
    Snapshot,
    TenantWeight,
    Traffic,
    WorkerRecord,
)

StepKey = tuple[UUID, str]
"""A task and a step of it."""


class QueueStore(Protocol):
    """Reads and steers queues and workers."""

    async def snapshot(self) -> Snapshot:
        """Read how busy all queues and workers are."""

    async def running(self, queue: str) -> int:
        """Count the running steps of a queue."""

    async def add(self, queues: Sequence[str]) -> None:
        """Make queues known, for those who must not name another one."""

    async def pause(self, queue: str, *, note: str, request_id: str = "") -> None:
        """Pause a queue; one that is paused gets the new note, unless it is empty.

        A `request_id` that paused it last time does nothing; so it is with `resume`.

        What starts all the same, since it was under way, has started when this returns.
        """

    async def resume(self, queue: str, *, request_id: str = "") -> bool:
        """Resume a queue and have its ready steps published; False if it was not paused."""

    async def drain_worker(self, session_id: UUID) -> WorkerRecord | None:
        """Have a worker drain; None if it is not alive."""


class TrafficStore(Protocol):
    """Keeps what happened in queues of late, of all processes together."""

    async def add_traffic(self, traffic: Mapping[str, Traffic]) -> None:
        """Add what happened in queues since the last call to the current span of time."""

    async def forget_traffic(self, older_than: timedelta) -> None:
        """Forget what happened before a time ago."""


class FailureStore(Protocol):
    """Reads the failed steps of a tenant."""

    async def failed_steps(
        self, tenant_id: str, selected: FailedFilter, *, before: StepKey | None, limit: int
    ) -> Sequence[FailedStep]:
        """Read failed steps, those of the newest tasks first, behind one of them."""

    async def count_failed(
        self, tenant_id: str, selected: FailedFilter, *, newest: int
    ) -> Mapping[str, int]:
        """Count the `newest` failed steps by reason, most first."""

    async def failed_tasks(
        self, tenant_id: str, selected: FailedFilter, *, after: UUID | None, limit: int
    ) -> Sequence[UUID]:
        """Read the FAILED tasks that have such a step, oldest first, behind one of them."""

    async def failed_per_task(self, task_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """Count the failed steps of tasks; those without any are left out."""


class WeightStore(Protocol):
    """Keeps the weights of tenants; who has none has weight 1."""

    async def set_weight(self, tenant_id: str, weight: int) -> None:
        """Give a tenant a weight."""

    async def weights(self, *, after: str, limit: int) -> Sequence[TenantWeight]:
        """Read weights by tenant, behind one of them."""


class Retrier(Protocol):
    """Continues failed tasks."""

    async def retry(self, task_id: UUID, *, tenant_id: str, request_id: str) -> object:
        """Continue a task, once for each `request_id`.

        Raises:
            StepwireError: TASK_NOT_FOUND, or TASK_STATE_CONFLICT for a task that has not
                failed.
        """
