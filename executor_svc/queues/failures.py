"""Steps that failed for good: listed, counted by reason, and replayed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from executor_svc.queues.ports import FailureStore, Retrier, StepKey
from executor_svc.queues.records import FailedFilter, FailedStep
from stepwire.errors import Reason, StepwireError

# Most failed steps that are counted by reason.
MAX_COUNTED = 10_000
# Tasks that are continued at the same time, each in a transaction of its own.
AT_ONCE = 8
# What keeps a single task from being replayed.
_REFUSALS = frozenset({Reason.TASK_NOT_FOUND, Reason.TASK_STATE_CONFLICT})


@dataclass(frozen=True, slots=True)
class FailurePage:
    """Failed steps, and on the first page how many there are by reason.

    Attributes:
        capped: whether `reasons` counts only the newest MAX_COUNTED.
        more: whether there are more pages.
    """

    steps: Sequence[FailedStep]
    reasons: Mapping[str, int]
    capped: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a replay.

    Attributes:
        refused: reasons by task.
        behind: the last task looked at, if there are more; else None.
    """

    tasks: int
    steps: int
    refused: Mapping[UUID, Reason] = field(default_factory=dict)
    behind: UUID | None = None


class FailedSteps:
    """The failed steps of all tenants; each call names the tenant."""

    def __init__(self, store: FailureStore, retrier: Retrier) -> None:
        self._store = store
        self._retrier = retrier

    async def list(
        self, tenant_id: str, selected: FailedFilter, *, before: StepKey | None, limit: int
    ) -> FailurePage:
        """Return a page of failed steps, those of the newest tasks first."""
        steps = await self._store.failed_steps(tenant_id, selected, before=before, limit=limit + 1)
        reasons: Mapping[str, int] = {}
        if before is None:
            reasons = await self._store.count_failed(tenant_id, selected, newest=MAX_COUNTED)
        return FailurePage(
            steps=steps[:limit],
            reasons=reasons,
            capped=sum(reasons.values()) >= MAX_COUNTED,
            more=len(steps) > limit,
        )

    async def replay_selected(
        self,
        tenant_id: str,
        selected: FailedFilter,
        *,
        after: UUID | None,
        limit: int,
        request_id: str,
    ) -> Replay:
        """Continue up to `limit` tasks that have such a failed step, oldest first."""
        found = await self._store.failed_tasks(tenant_id, selected, after=after, limit=limit + 1)
        behind = found[limit - 1] if len(found) > limit else None
        return await self._replay(tenant_id, found[:limit], request_id, behind)

    async def replay_tasks(
        self, tenant_id: str, task_ids: Sequence[UUID], *, request_id: str
    ) -> Replay:
        """Continue tasks."""
        return await self._replay(tenant_id, list(dict.fromkeys(task_ids)), request_id, None)

    async def _replay(
        self, tenant_id: str, task_ids: Sequence[UUID], request_id: str, behind: UUID | None
    ) -> Replay:
        failed = await self._store.failed_per_task(task_ids)
        refused: dict[UUID, Reason] = {}

        async def retry(task_id: UUID) -> None:
            # An id of each task's own, where the caller's stands for all of them.
            own = f"{request_id}:{task_id}" if request_id else ""
            try:
                await self._retrier.retry(task_id, tenant_id=tenant_id, request_id=own)
            except StepwireError as error:
                if error.reason not in _REFUSALS:
                    raise
                refused[task_id] = error.reason

        for start in range(0, len(task_ids), AT_ONCE):
            await asyncio.gather(*map(retry, task_ids[start : start + AT_ONCE]))
        replayed = [task_id for task_id in task_ids if task_id not in refused]
        return Replay(
            tasks=len(replayed),
            steps=sum(failed.get(task_id, 0) for task_id in replayed),
            refused=refused,
            behind=behind,
        )
