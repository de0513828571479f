"""TaskStore on Postgres."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from executor_svc.events import parse_events
from executor_svc.graph import Graph
from executor_svc.ports import Effects, Existing, RequestKey
from executor_svc.records import Blob, NewTask, StepRecord, TaskEvent, TaskRecord, TaskState
from executor_svc.store.outputs import read_outputs
from executor_svc.store.rows import (
    batch_of,
    created_event,
    effects_of,
    json_text,
    queries,
    step_of,
    task_of,
)
from stepwire.db import retryable

PRIMARY_KEYS = frozenset({"tasks_pkey", "steps_pkey"})


class PostgresTaskStore:
    """See `executor_svc.ports.TaskStore`."""

    def __init__(self, pool: asyncpg.Pool, *, republish_after: timedelta) -> None:
        self._pool = pool
        self._republish_after = republish_after

    @retryable()
    async def add_graphs(self, graphs: Sequence[Graph]) -> None:
        await self._pool.execute(
            queries.add_graphs,
            [graph.graph_hash for graph in graphs],
            [graph.spec for graph in graphs],
        )

    @retryable()
    async def create(self, tasks: Sequence[NewTask]) -> bool:
        try:
            await self._pool.execute(queries.create_tasks, *self._create_arguments(tasks))
        except asyncpg.UniqueViolationError as error:
            # Ids are made once: where they stand already, this very statement was committed
            # and its answer lost.
            return error.constraint_name in PRIMARY_KEYS
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
            (row["tenant_id"], row["request_id"]): Existing(
                row["task_id"], row["graph_hash"], row["input"]
            )
            for row in rows
        }

    def _create_arguments(self, tasks: Sequence[NewTask]) -> list[object]:
        steps = [(task.task_id, step) for task in tasks for step in task.steps]
        return [
            [task.task_id for task in tasks],
            [task.tenant_id for task in tasks],
            [task.request_id for task in tasks],
            [task.graph_hash for task in tasks],
            [task.open_sinks for task in tasks],
            [task.input.data for task in tasks],
            [task.input.content_type for task in tasks],
            [json_text(task.labels) if task.labels else None for task in tasks],
            [task.traceparent for task in tasks],
            [task.created_at for task in tasks],
            [task_id for task_id, _ in steps],
            [step.step_id for _, step in steps],
            [step.ordinal for _, step in steps],
            [step.dependencies for _, step in steps],
            [step.queue for _, step in steps],
            self._republish_after,
        ]

    @retryable()
    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        rows = await self._pool.fetch(queries.read_graphs, [graph_hash])
        return rows[0]["spec"] if rows else None

    @retryable()
    async def get(self, task_id: UUID, *, tenant_id: str) -> TaskRecord | None:
        row = await self._pool.fetchrow(queries.get_task, task_id, tenant_id)
        return None if row is None else task_of(row)

    @retryable()
    async def list(
        self,
        *,
        tenant_id: str,
        before: UUID | None,
        state: TaskState | None,
        labels: Mapping[str, str],
        limit: int,
    ) -> Sequence[TaskRecord]:
        rows = await self._pool.fetch(
            queries.list_tasks,
            tenant_id,
            before,
            state,
            json_text(dict(labels)) if labels else None,
            limit,
        )
        return [task_of(row) for row in rows]

    @retryable()
    async def steps(self, task_id: UUID, *, outputs: bool) -> Sequence[StepRecord]:
        return [
            step_of(row) for row in await self._pool.fetch(queries.list_steps, task_id, outputs)
        ]

    @retryable()
    async def outputs(self, wanted: Sequence[tuple[UUID, str]]) -> Sequence[Blob | None]:
        return await read_outputs(self._pool, wanted)

    @retryable()
    async def events(self, task: TaskRecord, *, after: int, limit: int) -> Sequence[TaskEvent]:
        events = [created_event(task)] if after < 1 else []
        for row in await self._pool.fetch(queries.read_events, task.task_id, after, limit):
            events += [event for event in parse_events(batch_of(row)) if event.cursor > after]
        return events

    @retryable()
    async def cancel(self, task_id: UUID) -> Effects | None:
        facts = await self._pool.fetch(queries.cancel_task, task_id)
        return effects_of(facts) if facts else None

    @retryable()
    async def retry(self, task_id: UUID, *, request_id: str | None) -> Effects | None:
        facts = await self._pool.fetch(
            queries.retry_task, task_id, request_id, self._republish_after
        )
        return effects_of(facts) if facts else None
