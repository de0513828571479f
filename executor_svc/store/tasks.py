"""TaskStore on Postgres."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from executor_svc.engine.ports import Effects, Existing, RequestKey
from executor_svc.engine.records import (
    Blob,
    NewTask,
    Place,
    StepAddress,
    StepRecord,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from executor_svc.graphs.graph import Graph
from executor_svc.store.new_tasks import create_arguments, parents_of
from executor_svc.store.outputs import outputs_of, read_outputs
from executor_svc.store.rows import Row, batch_of, created_event, effects_of, json_text, queries
from executor_svc.store.task_rows import left_of, step_of, task_of
from executor_svc.tasks.events import parse_events
from executor_svc.tasks.filters import ALIVE, IdRange, TaskFilter
from executor_svc.tasks.ports import AttemptsOverError, Made, RetryPlan, Signal
from executor_svc.tasks.refusals import task_not_found
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.db import retryable
from stepwire.failpoints import failpoint

REQUESTS_KEY = "requests_pkey"
# Steps that are looked at for the tasks that go on. Where more are alive, those of a state are
# looked for among all tasks of the time.
MOST_ALIVE = 10_000


class _BegunAnewError(Exception):
    """A step that was to be kept by a fork runs again."""


class PostgresTaskStore:
    """See `executor_svc.tasks.ports.TaskStore`.

    Inputs larger than `inline_bytes` are kept apart from their tasks.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, republish_after: timedelta, inline_bytes: int
    ) -> None:
        self._pool = pool
        self._republish_after = republish_after
        self._inline_bytes = inline_bytes

    @retryable()
    async def add_graphs(self, graphs: Sequence[Graph]) -> None:
        await self._pool.execute(
            queries.add_graphs,
            [graph.graph_hash for graph in graphs],
            [graph.spec for graph in graphs],
        )

    @retryable()
    async def create(self, tasks: Sequence[NewTask], *, unpublished: Collection[str] = ()) -> bool:
        try:
            await self._pool.execute(
                queries.create_tasks, *self._create_arguments(tasks, unpublished)
            )
        except asyncpg.UniqueViolationError as error:
            return _is_repeated(error)
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise _over(error, tasks) from error
        await failpoint("create.committed")
        return True

    @retryable()
    async def find(self, tasks: Sequence[NewTask]) -> Mapping[RequestKey, Existing]:
        named = [task for task in tasks if task.request_id is not None]
        if not named:
            return {}
        rows = await self._pool.fetch(
            queries.find_requests,
            [task.tenant_id for task in named],
            [task.request_id for task in named],
        )
        return {
            (row["tenant_id"], row["request_id"]): Existing(row["task_id"], row["digest"])
            for row in rows
        }

    @retryable()
    async def fork(self, task: NewTask, kept: Sequence[str], *, source: UUID) -> bool:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.create_tasks, *self._create_arguments([task], ()))
                if await connection.fetchval(queries.mark_fork, task.task_id, source) is None:
                    raise task_not_found(source)
                await connection.execute(queries.use_graphs_of, source)
                await _copy_steps(connection, task.task_id, source, kept)
        except _BegunAnewError:
            return False
        except asyncpg.UniqueViolationError as error:
            return _is_repeated(error)
        return True

    @retryable()
    async def made_by(
        self, task_ids: Sequence[UUID], *, tenant_id: str, prefix: str
    ) -> Sequence[UUID]:
        rows = await self._pool.fetch(queries.made_by, task_ids, tenant_id, prefix)
        return [row["task_id"] for row in rows]

    @retryable()
    async def made(self, tenant_id: str, request_id: str) -> Made | None:
        row = await self._pool.fetchrow(queries.requested, tenant_id, request_id)
        if row is None:
            return None
        return Made(row["graph_hash"], row["workflow"] or "", row["workflow_version"] or "")

    @retryable()
    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        rows = await self._pool.fetch(queries.read_graphs, [graph_hash])
        return rows[0]["spec"] if rows else None

    @retryable()
    async def get(
        self, task_id: UUID, *, tenant_id: str, with_input: bool = False
    ) -> TaskRecord | None:
        row = await self._pool.fetchrow(queries.get_task, task_id, tenant_id, with_input, None)
        return None if row is None else task_of(row)

    @retryable()
    async def get_with_outputs(
        self, task_id: UUID, step_ids: Sequence[str], *, tenant_id: str
    ) -> tuple[TaskRecord, Sequence[Blob | None]] | None:
        row = await self._pool.fetchrow(queries.get_task, task_id, tenant_id, False, step_ids)
        if row is None:
            return None
        return task_of(row), await outputs_of(self._pool, task_id, step_ids, row["outputs"])

    @retryable()
    async def list(
        self, wanted: TaskFilter, ids: IdRange, *, tenant_id: str, limit: int
    ) -> Sequence[TaskRecord]:
        return [task_of(row) for row in await self._select("list", wanted, ids, tenant_id, limit)]

    @retryable()
    async def find_ids(
        self, wanted: TaskFilter, ids: IdRange, *, tenant_id: str, limit: int
    ) -> Sequence[UUID]:
        return [row["task_id"] for row in await self._select("find", wanted, ids, tenant_id, limit)]

    async def _select(
        self, verb: str, wanted: TaskFilter, ids: IdRange, tenant_id: str, limit: int
    ) -> Sequence[Row]:
        """List or find tasks by the index that suits what is wanted."""
        arguments = _arguments(wanted, ids, tenant_id, limit)
        if wanted.mark is not None:
            reason = wanted.failure_reason or None
            return await self._pool.fetch(queries[f"{verb}_marked_tasks"], *arguments, reason)
        if wanted.state in ALIVE:
            waiting = wanted.state is TaskState.WAITING
            among = await self._pool.fetchval(
                queries.alive_tasks, tenant_id, ids.first, ids.end, waiting, MOST_ALIVE
            )
            if among is not None:
                return await self._pool.fetch(queries[f"{verb}_alive_tasks"], *arguments, among)
        which = f"{verb}_workflow_tasks" if wanted.workflow else f"{verb}_tasks"
        return await self._pool.fetch(queries[which], *arguments)

    @retryable()
    async def steps(self, task_id: UUID, *, outputs: bool) -> Sequence[StepRecord]:
        rows = await self._pool.fetch(queries.list_steps, task_id, outputs)
        return [step_of(row) for row in rows]

    @retryable()
    async def outputs(self, wanted: Sequence[StepAddress]) -> Sequence[Blob | None]:
        return await read_outputs(self._pool, wanted)

    @retryable()
    async def events(self, task: TaskRecord, *, after: int, limit: int) -> Sequence[TaskEvent]:
        events = [created_event(task)] if after < 1 else []
        for row in await self._pool.fetch(queries.read_events, task.task_id, after, limit):
            events += [event for event in parse_events(batch_of(row)) if event.cursor > after]
        return events

    @retryable()
    async def added_graphs(self, task_id: UUID) -> Sequence[bytes]:
        return [row["added_graph"] for row in await self._pool.fetch(queries.added_graphs, task_id)]

    @retryable()
    async def find_signal(self, task_id: UUID, request_id: str) -> Signal | None:
        row = await self._pool.fetchrow(queries.find_signal, task_id, request_id)
        return None if row is None else Signal(row["name"], row["payload"], request_id)

    @retryable()
    async def cancel(self, task_id: UUID) -> Effects | None:
        facts = await self._pool.fetch(queries.cancel_task, task_id)
        await failpoint("cancel.committed")
        return _effects(facts)

    @retryable()
    async def pause(self, task_id: UUID, *, request_id: str) -> Effects | None:
        return _effects(await self._pool.fetch(queries.pause_task, task_id, request_id or None))

    @retryable()
    async def resume(self, task_id: UUID, *, request_id: str) -> Effects | None:
        return _effects(
            await self._pool.fetch(
                queries.resume_task, self._republish_after, task_id, request_id or None
            )
        )

    @retryable()
    async def retry(
        self, task_id: UUID, *, request_id: str, place: Place | None, plan: RetryPlan
    ) -> Effects | None:
        key, policy, max_running = (
            (None, None, None) if place is None else (place.key, place.policy, place.max_running)
        )
        async with self._pool.acquire() as connection, connection.transaction():
            # What still runs in it may end, but not between the look and the plan.
            await connection.execute(queries.lock_tasks, [task_id])
            left = [left_of(row) for row in await connection.fetch(queries.left_steps, task_id)]
            resets = plan(left) if left else ()
            facts = await connection.fetch(
                queries.retry_task,
                self._republish_after,
                task_id,
                request_id,
                key,
                policy,
                max_running,
                [each.step_id for each in resets],
                [each.waits_for for each in resets],
                [each.needs for each in resets],
                [each.open for each in resets],
                [each.released for each in resets],
                [each.phase for each in resets],
            )
        await failpoint("retry.committed")
        return _effects(facts)

    @retryable()
    async def signal(self, task_id: UUID, signal: Signal) -> Effects | None:
        return _effects(
            await self._pool.fetch(
                queries.signal_task,
                self._republish_after,
                task_id,
                signal.name,
                signal.payload,
                signal.request_id,
                _signalled(signal),
            )
        )

    @retryable()
    async def wake_parent(self, parent: StepAddress, child: UUID) -> Effects:
        facts = await self._pool.fetch(
            queries.wake_parent, self._republish_after, parent.task_id, parent.step_id, child
        )
        return effects_of(facts)

    def _create_arguments(
        self, tasks: Sequence[NewTask], unpublished: Collection[str]
    ) -> Sequence[object]:
        return create_arguments(
            tasks,
            inline_bytes=self._inline_bytes,
            unpublished=unpublished,
            republish_after=self._republish_after,
        )


async def _copy_steps(
    connection: PoolConnectionProxy, task_id: UUID, source: UUID, kept: Sequence[str]
) -> None:
    rows = await connection.fetch(queries.copy_steps, task_id, source, kept)
    if len(rows) < len(kept):
        raise _BegunAnewError


def _is_repeated(error: asyncpg.UniqueViolationError) -> bool:
    """Whether tasks are there since this very statement was committed and its answer lost.

    Ids are made once, so what else stands there already is a request_id.
    """
    return error.constraint_name != REQUESTS_KEY


def _over(
    error: asyncpg.ObjectNotInPrerequisiteStateError, tasks: Sequence[NewTask]
) -> AttemptsOverError:
    """Return which subtasks nobody would wait for; see hold_parents_v1."""
    subtasks = [task.task_id for _, task in parents_of(tasks)]
    assert error.detail is not None
    return AttemptsOverError([subtasks[int(place) - 1] for place in error.detail.split(",")])


def _arguments(wanted: TaskFilter, ids: IdRange, tenant_id: str, limit: int) -> Sequence[object]:
    """Return the parameters that all statements which select tasks have."""
    return (
        tenant_id,
        ids.first,
        ids.end,
        wanted.mark or wanted.state,
        json_text(wanted.labels) if wanted.labels else None,
        wanted.workflow or None,
        wanted.workflow_version or None,
        limit,
    )


def _signalled(signal: Signal) -> str:
    event_type = TaskEventType.TASK_EVENT_TYPE_TASK_SIGNALLED
    return f'[{event_type},"",0,{json_text({"name": signal.name})}]'


def _effects(facts: Sequence[Row]) -> Effects | None:
    """Gather what a transition asks for; one that was not made tells nothing."""
    return effects_of(facts) if facts else None
