"""Reading and steering tasks: the verbs of a task's owner."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import orjson

from executor_svc.announce import Announcer
from executor_svc.compile import GraphLimits
from executor_svc.events import FINAL, EventHub, ending, parse_events
from executor_svc.graph import Graph
from executor_svc.graphs import GraphCache
from executor_svc.ports import TaskStore
from executor_svc.records import (
    Blob,
    EventBatch,
    StepRecord,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError
from stepwire.payload import JSON

EVENTS_PAGE = 1000


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task with what came of it."""

    task: TaskRecord
    output: Blob | None = None
    steps: Sequence[StepRecord] = ()


class Tasks:
    """The tasks of all tenants; each call names the tenant."""

    def __init__(
        self,
        store: TaskStore,
        announcer: Announcer,
        hub: EventHub,
        *,
        limits: GraphLimits,
        recheck: timedelta,
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._hub = hub
        self._limits = limits
        # How long a watcher trusts the event bus before it looks into the record again.
        self._recheck = recheck
        self._graphs = GraphCache()

    def compile(self, message: graph_pb2.Graph, *, field: str) -> Graph:
        """Check and compile a request's graph; see `compile_graph`."""
        return self._graphs.compile(message, limits=self._limits, field=field)

    async def get(self, task_id: UUID, *, tenant_id: str) -> TaskRecord:
        """Return a task.

        Raises:
            StepwireError: TASK_NOT_FOUND.
        """
        task = await self._store.get(task_id, tenant_id=tenant_id)
        if task is None:
            raise StepwireError(
                Reason.TASK_NOT_FOUND,
                f"there is no task {task_id}",
                metadata={"task_id": str(task_id)},
            )
        return task

    async def view(
        self, task_id: UUID, *, tenant_id: str, steps: bool = False, outputs: bool = False
    ) -> TaskView:
        """Return a task with its output and, if asked for, its steps and their outputs."""
        task = await self.get(task_id, tenant_id=tenant_id)
        records = await self._store.steps(task_id, outputs=outputs) if steps else ()
        if outputs:
            records = await self._with_gathered_outputs(task_id, records)
        output = await self._output(task) if task.state == TaskState.SUCCEEDED else None
        return TaskView(task, output, records)

    async def list(
        self,
        *,
        tenant_id: str,
        before: UUID | None,
        state: TaskState | None,
        labels: Mapping[str, str],
        limit: int,
    ) -> Sequence[TaskRecord]:
        """Return a tenant's tasks, newest first."""
        return await self._store.list(
            tenant_id=tenant_id, before=before, state=state, labels=labels, limit=limit
        )

    async def wait(self, task_id: UUID, *, tenant_id: str, at_most: timedelta) -> TaskView:
        """Wait until a task is final, for `at_most`; return it as it then is."""
        async with self._hub.watch(task_id) as batches:
            task = await self.get(task_id, tenant_id=tenant_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most.total_seconds()):
                    while not task.state.is_final:
                        await self._next_final(batches)
                        task = await self.get(task_id, tenant_id=tenant_id)
        return await self.view(task_id, tenant_id=tenant_id)

    async def _next_final(self, batches: asyncio.Queue[EventBatch | None]) -> None:
        """Wait for the event that makes the task final, or until the record is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._recheck.total_seconds()):
                while True:
                    batch = await batches.get()
                    if batch is None:
                        raise ending()
                    if any(event.type in FINAL for event in parse_events(batch)):
                        return

    async def watch(
        self, task_id: UUID, *, tenant_id: str, after: int
    ) -> AsyncGenerator[TaskEvent, None]:
        """Yield a task's events behind a cursor, in order and without gap, to the final one."""
        async with self._hub.watch(task_id) as batches:
            cursor = after
            while True:
                task = await self.get(task_id, tenant_id=tenant_id)
                while events := await self._store.events(task, after=cursor, limit=EVENTS_PAGE):
                    for event in events:
                        yield event
                        cursor = event.cursor
                if task.state.is_final and cursor >= task.last_cursor:
                    return
                async for event in self._live(batches, cursor):
                    yield event
                    cursor = event.cursor

    async def _live(
        self, batches: asyncio.Queue[EventBatch | None], cursor: int
    ) -> AsyncIterator[TaskEvent]:
        """Yield events from the bus until a gap, the final event, or the recheck is due."""
        while True:
            try:
                async with asyncio.timeout(self._recheck.total_seconds()):
                    batch = await batches.get()
            except TimeoutError:
                return
            if batch is None:
                raise ending()
            for event in parse_events(batch):
                if event.cursor <= cursor:
                    continue
                if event.cursor > cursor + 1:
                    return
                yield event
                cursor = event.cursor
                if event.type in FINAL:
                    return

    async def cancel(self, task_id: UUID, *, tenant_id: str) -> TaskView:
        """Cancel a task; one that is cancelled already is returned as it is.

        Raises:
            StepwireError: TASK_NOT_FOUND, or TASK_STATE_CONFLICT for a task that ended.
        """
        task = await self.get(task_id, tenant_id=tenant_id)
        effects = await self._store.cancel(task_id)
        if effects is not None:
            self._announcer.announce(effects, cancelled=True)
        task = await self.get(task_id, tenant_id=tenant_id)
        if task.state != TaskState.CANCELLED:
            raise _conflict(task, "cancel")
        return TaskView(task)

    async def retry(self, task_id: UUID, *, tenant_id: str, request_id: str) -> TaskView:
        """Continue a FAILED task behind its last completed steps.

        A `request_id` retries once: given again, it returns the task as it is, even when the
        task has failed anew. Only the newest one is remembered.

        Raises:
            StepwireError: TASK_NOT_FOUND, or TASK_STATE_CONFLICT for a task that has not
                failed, unless it was `request_id` that continued it.
        """
        await self.get(task_id, tenant_id=tenant_id)
        effects = await self._store.retry(task_id, request_id=request_id or None)
        if effects is not None:
            self._announcer.announce(effects)
        task = await self.get(task_id, tenant_id=tenant_id)
        if effects is None and not (request_id and task.retry_request_id == request_id):
            raise _conflict(task, "retry")
        return TaskView(task)

    async def _output(self, task: TaskRecord) -> Blob:
        graph = await self._graphs.load(task.graph_hash, self._store.read_graph)
        names = [step.name for step in graph.sinks]
        outputs = await self._store.outputs([(task.task_id, name) for name in names])
        blobs = [blob or Blob(b"null", JSON) for blob in outputs]
        if len(blobs) == 1:
            return blobs[0]
        members = (
            orjson.dumps(name) + b":" + blob.data for name, blob in zip(names, blobs, strict=True)
        )
        return Blob(b"{" + b",".join(members) + b"}", JSON)

    async def _with_gathered_outputs(
        self, task_id: UUID, records: Sequence[StepRecord]
    ) -> Sequence[StepRecord]:
        gathered = [
            record
            for record in records
            if record.output is None and record.items and record.state == "SUCCEEDED"
        ]
        outputs = await self._store.outputs([(task_id, record.step_id) for record in gathered])
        by_id = dict(zip((record.step_id for record in gathered), outputs, strict=True))
        return [
            replace(record, output=by_id[record.step_id]) if record.step_id in by_id else record
            for record in records
        ]


def _conflict(task: TaskRecord, verb: str) -> StepwireError:
    return StepwireError(
        Reason.TASK_STATE_CONFLICT,
        f"task {task.task_id} is {task.state}, which does not allow to {verb} it",
        metadata={"task_id": str(task.task_id), "state": task.state, "verb": verb},
    )
