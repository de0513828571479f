"""Reading tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

import orjson

from executor_svc.engine.records import (
    Blob,
    StepAddress,
    StepRecord,
    StepState,
    TaskRecord,
    TaskState,
)
from executor_svc.engine.state_machine import UNDO_MARK
from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.graph import Graph
from executor_svc.tasks.filters import TaskFilter
from executor_svc.tasks.ports import TaskReader
from executor_svc.tasks.refusals import task_not_found
from stepwire.payload import JSON, NULL


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task with what came of it."""

    task: TaskRecord
    output: Blob | None = None
    steps: Sequence[StepRecord] = ()


class Tasks:
    """The tasks of all tenants; each call names the tenant."""

    def __init__(self, store: TaskReader, graphs: GraphCache) -> None:
        self._store = store
        self._graphs = graphs

    async def get(self, task_id: UUID, *, tenant_id: str, with_input: bool = False) -> TaskRecord:
        """Return a task.

        Raises:
            StepwireError: TASK_NOT_FOUND.
        """
        task = await self._store.get(task_id, tenant_id=tenant_id, with_input=with_input)
        if task is None:
            raise task_not_found(task_id)
        return task

    async def view(
        self,
        task_id: UUID,
        *,
        tenant_id: str,
        with_input: bool = False,
        steps: bool = False,
        outputs: bool = False,
    ) -> TaskView:
        """Return a task with its output and, if asked for, its steps and their outputs."""
        task = await self.get(task_id, tenant_id=tenant_id, with_input=with_input)
        records = await self._steps(task_id, outputs=outputs) if steps else ()
        output = await self._output(task) if task.state is TaskState.SUCCEEDED else None
        return TaskView(task, output, records)

    async def view_ended(self, task_id: UUID, sinks: Sequence[str], *, tenant_id: str) -> TaskView:
        """Like `view`, by one look, for who knows which steps give the task's output."""
        found = await self._store.get_with_outputs(task_id, sinks, tenant_id=tenant_id)
        if found is None:
            raise task_not_found(task_id)
        task, outputs = found
        succeeded = task.state is TaskState.SUCCEEDED
        return TaskView(task, _joined(sinks, outputs) if succeeded else None)

    async def sinks_of(self, graph_hash: bytes) -> Sequence[str]:
        """Return the steps of a graph whose outputs are its tasks' output."""
        return [step.name for step in (await self.graph_of(graph_hash)).sinks]

    async def output_of(self, task_id: UUID, *, tenant_id: str) -> Blob | None:
        """Return a task's output; None if it has not succeeded."""
        task = await self._store.get(task_id, tenant_id=tenant_id)
        if task is None or task.state is not TaskState.SUCCEEDED:
            return None
        return await self._output(task)

    async def list(
        self, wanted: TaskFilter, *, tenant_id: str, before: UUID | None, limit: int
    ) -> Sequence[TaskRecord]:
        """Return a tenant's tasks, newest first."""
        if wanted.selects_nothing:
            return ()
        ids = wanted.ids.before(before)
        return await self._store.list(wanted, ids, tenant_id=tenant_id, limit=limit)

    async def graph_of(self, graph_hash: bytes) -> Graph:
        """Return a graph that a task runs."""
        return await self._graphs.load(graph_hash, self._store.read_graph)

    async def _steps(self, task_id: UUID, *, outputs: bool) -> Sequence[StepRecord]:
        records = list(in_order(await self._store.steps(task_id, outputs=outputs)))
        return await self._with_gathered_outputs(task_id, records) if outputs else records

    async def _output(self, task: TaskRecord) -> Blob:
        names = await self.sinks_of(task.graph_hash)
        outputs = await self._store.outputs([StepAddress(task.task_id, name) for name in names])
        return _joined(names, outputs)

    async def _with_gathered_outputs(
        self, task_id: UUID, records: Sequence[StepRecord]
    ) -> Sequence[StepRecord]:
        gathered = [
            record.step_id
            for record in records
            if record.output is None and record.items and record.state is StepState.SUCCEEDED
        ]
        outputs = await self._store.outputs([StepAddress(task_id, each) for each in gathered])
        by_id = dict(zip(gathered, outputs, strict=True))
        return [
            replace(record, output=by_id[record.step_id]) if record.step_id in by_id else record
            for record in records
        ]


def _joined(names: Sequence[str], outputs: Sequence[Blob | None]) -> Blob:
    """Return the output of a task: that of its only sink, or those of all by name."""
    # A step that was skipped has none.
    blobs = [blob or Blob(NULL, JSON) for blob in outputs]
    if len(blobs) == 1:
        return blobs[0]
    members = (
        orjson.dumps(name) + b":" + blob.data for name, blob in zip(names, blobs, strict=True)
    )
    return Blob(b"{" + b",".join(members) + b"}", JSON)


def in_order(records: Sequence[StepRecord]) -> Iterator[StepRecord]:
    """Yield steps in the order of their graph, each followed by what it has added.

    Items come behind their step, and what compensates the task comes last.
    """
    by_scope = {
        scope: list(steps)
        for scope, steps in groupby(sorted(records, key=_place), key=lambda step: step.scope)
    }
    stack = by_scope.get("", [])[::-1]
    while stack:
        record = stack.pop()
        yield record
        stack += by_scope.get(record.step_id, [])[::-1]


def _place(record: StepRecord) -> tuple[str, bool, int, int]:
    undoes = record.step_id.startswith(UNDO_MARK)
    return record.scope, undoes, record.ordinal, -1 if record.item is None else record.item
