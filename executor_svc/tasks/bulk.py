"""Doing the same with many tasks, a page at a time."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from executor_svc.tasks.filters import TaskFilter
from executor_svc.tasks.forking import Forks
from executor_svc.tasks.ports import TaskStore
from executor_svc.tasks.steering import Steering
from executor_svc.tasks.task_ids import next_id
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7

# Tasks of a page that are changed at once: fewer than there are connections.
AT_ONCE = 4

# What a task can refuse; anything else ends the call.
REFUSALS = frozenset(
    {
        Reason.TASK_NOT_FOUND,
        Reason.TASK_STATE_CONFLICT,
        Reason.FIELD_INVALID,
        Reason.REQUEST_ID_REUSED,
    }
)


class Action(Enum):
    """What is done with each task; see `TaskAction`."""

    CANCEL = auto()
    RETRY = auto()
    FORK = auto()
    PAUSE = auto()
    RESUME = auto()


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done with each task.

    Attributes:
        from_step: for FORK.
        request_id: of the whole operation; empty for no protection against doubled sending.
        traceparent: the trace of what FORK makes.
    """

    action: Action
    from_step: str = ""
    request_id: str = ""
    traceparent: str = ""

    def request_id_for(self, task_id: UUID) -> str:
        """Return the request_id by which it is done with one task."""
        return f"{self.request_id}/{task_id}" if self.request_id else ""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an operation stands: behind `last`, and before `end`, where it began."""

    last: UUID
    end: UUID


@dataclass(frozen=True, slots=True)
class BulkPage:
    """What a call has done.

    Attributes:
        task_ids: tasks that it was done with; for FORK, those that were made.
        refused: why it was not done with others.
        next: where the next call goes on; None at the end.
    """

    task_ids: Sequence[UUID]
    refused: Mapping[UUID, str]
    next: Position | None


class Bulk:
    """Changes the tasks that a filter selects, oldest first.

    Tasks that are made while an operation goes on are not part of it: what FORK makes is
    itself selected by many a filter.
    """

    def __init__(self, store: TaskStore, steering: Steering, forks: Forks) -> None:
        self._store = store
        self._steering = steering
        self._forks = forks

    async def update(
        self,
        wanted: TaskFilter,
        change: Change,
        *,
        tenant_id: str,
        position: Position | None,
        limit: int,
        validate_only: bool,
    ) -> BulkPage:
        """Do something with the next `limit` tasks, or only say which they are.

        Raises:
            StepwireError: what kept it from going on. The same call can be made again.
        """
        end = uuid7() if position is None else position.end
        found = await self._find(wanted, position, end, tenant_id=tenant_id, limit=limit + 1)
        page = found[:limit]
        onward = Position(page[-1], end) if len(found) > limit else None
        if validate_only:
            return BulkPage(page, {}, onward)
        made = await self._made_before(page, change, tenant_id)
        page = [task_id for task_id in page if task_id not in made]
        done, refused = await self._carry_out(page, change, tenant_id)
        return BulkPage(done, refused, onward)

    async def _find(
        self,
        wanted: TaskFilter,
        position: Position | None,
        end: UUID,
        *,
        tenant_id: str,
        limit: int,
    ) -> Sequence[UUID]:
        if wanted.selects_nothing:
            return ()
        ids = wanted.ids.before(end)
        if position is not None:
            ids = ids.since(next_id(position.last))
        return await self._store.find_ids(wanted, ids, tenant_id=tenant_id, limit=limit)

    async def _made_before(
        self, page: Sequence[UUID], change: Change, tenant_id: str
    ) -> Collection[UUID]:
        """Return the tasks that the same operation has made, when it is begun once more."""
        if change.action is not Action.FORK or not change.request_id:
            return ()
        prefix = f"{change.request_id}/"
        return set(await self._store.made_by(page, tenant_id=tenant_id, prefix=prefix))

    async def _carry_out(
        self, page: Sequence[UUID], change: Change, tenant_id: str
    ) -> tuple[Sequence[UUID], Mapping[UUID, str]]:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(task_id: UUID) -> UUID:
            async with room:
                return await self._change(task_id, change, tenant_id)

        results = await asyncio.gather(*map(one, page), return_exceptions=True)
        done: list[UUID] = []
        refused: dict[UUID, str] = {}
        for task_id, result in zip(page, results, strict=True):
            if not isinstance(result, BaseException):
                done.append(result)
            elif isinstance(result, StepwireError) and result.reason in REFUSALS:
                refused[task_id] = result.reason
            else:
                raise result
        return done, refused

    async def _change(self, task_id: UUID, change: Change, tenant_id: str) -> UUID:
        """Do it with one task; return the task that it is or has made."""
        request_id = change.request_id_for(task_id)
        match change.action:
            case Action.CANCEL:
                await self._steering.cancel(task_id, tenant_id=tenant_id)
            case Action.PAUSE:
                await self._steering.pause(task_id, tenant_id=tenant_id, request_id=request_id)
            case Action.RESUME:
                await self._steering.resume(task_id, tenant_id=tenant_id, request_id=request_id)
            case Action.RETRY:
                await self._steering.retry(task_id, tenant_id=tenant_id, request_id=request_id)
            case Action.FORK:
                fork = await self._forks.fork(
                    task_id,
                    tenant_id=tenant_id,
                    from_step=change.from_step,
                    request_id=request_id,
                    labels={},
                    traceparent=change.traceparent,
                )
                return fork.task.task_id
        return task_id
