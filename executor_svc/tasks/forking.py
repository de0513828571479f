"""Making new tasks from recorded ones."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import orjson

from executor_svc.engine.records import NewTask, StepRecord, TaskRecord, Trait
from executor_svc.engine.state_machine import UNDO_MARK
from executor_svc.graphs.graph import Graph
from executor_svc.metrics import ExecutorMetrics
from executor_svc.tasks.creator import Submission, after_creation, new_task
from executor_svc.tasks.fork import plan_fork
from executor_svc.tasks.places import place_of
from executor_svc.tasks.ports import TaskStore
from executor_svc.tasks.refusals import request_id_reused
from executor_svc.tasks.tasks import Tasks, TaskView
from executor_svc.waking.announce import Announcer
from stepwire.errors import field_invalid


class Forks:
    """Makes forks. `has_subscriptions` is that of the Creator."""

    def __init__(
        self,
        tasks: Tasks,
        store: TaskStore,
        announcer: Announcer,
        metrics: ExecutorMetrics,
        *,
        has_subscriptions: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._announcer = announcer
        self._metrics = metrics
        self._has_subscriptions = has_subscriptions

    async def fork(
        self,
        task_id: UUID,
        *,
        tenant_id: str,
        from_step: str,
        request_id: str,
        labels: Mapping[str, str],
        traceparent: str,
    ) -> TaskView:
        """Make a task that keeps what another one has recorded before a step.

        Args:
            task_id: the task to start from.
            tenant_id: whose it is.
            from_step: name of the step of its graph from which the new one runs.
            request_id: makes one new task; empty for no protection against doubled sending.
            labels: of the new task; empty for those of the old one.
            traceparent: the new task's trace.

        Raises:
            StepwireError: TASK_NOT_FOUND, FIELD_INVALID or REQUEST_ID_REUSED.
        """
        source = await self._tasks.get(task_id, tenant_id=tenant_id, with_input=True)
        graph = await self._tasks.graph_of(source.graph_hash)
        if from_step not in graph.by_name:
            raise field_invalid("from_step", f"the task's graph has no step {from_step[:80]!r}")
        assert source.input is not None
        submission = Submission(
            tenant_id=tenant_id,
            graph=graph,
            input=source.input,
            request_id=request_id,
            digest=_digest(task_id, from_step, labels),
            labels=labels or source.labels,
            traceparent=traceparent,
            priority=source.priority,
            timeout=source.timeout,
            place=place_of(graph, source.input, field="task_id"),
            workflow=source.workflow,
            workflow_version=source.workflow_version,
        )
        new = new_task(submission, notify=self._has_subscriptions(tenant_id))
        made = await self._make(new, source, from_step)
        return await self._tasks.view(made, tenant_id=tenant_id)

    async def _make(self, new: NewTask, source: TaskRecord, from_step: str) -> UUID:
        """Make the task, unless its request_id has made one; return the id of either."""
        graph = await self._tasks.graph_of(source.graph_hash)
        own_traits = new.traits
        while True:
            known = (await self._store.find([new])).get((new.tenant_id, new.request_id))
            if known is not None:
                if known.digest != new.digest:
                    raise request_id_reused(new.request_id or "", known.task_id)
                return known.task_id
            steps = await self._store.steps(source.task_id, outputs=False)
            plan = plan_fork(
                graph, steps, from_step, priority=new.priority, added=await self._added(steps)
            )
            traits = own_traits | (Trait.COMPENSATES if plan.compensates else Trait.NONE)
            new = replace(new, steps=plan.steps, open_sinks=plan.open_sinks, traits=traits)
            if await self._store.fork(new, plan.kept, source=source.task_id):
                self._announcer.announce(after_creation([new]))
                self._metrics.accepted(1)
                return new.task_id
            # Another call was faster with the request_id: it is known now. Or the source goes on.

    async def _added(self, steps: Sequence[StepRecord]) -> Mapping[bytes, Graph]:
        """Return the graphs that steps of a task have added, but for what undoes it."""
        hashes = {
            step.graph_hash
            for step in steps
            if step.graph_hash is not None and not step.step_id.startswith(UNDO_MARK)
        }
        return {each: await self._tasks.graph_of(each) for each in hashes}


def _digest(task_id: UUID, from_step: str, labels: Mapping[str, str]) -> bytes:
    asked = ["fork", str(task_id), from_step, dict(labels)]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
