"""Steering tasks: the verbs of a task's owner."""

from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import orjson

from executor_svc.engine.ports import Effects
from executor_svc.engine.records import Place, TaskRecord, TaskState
from executor_svc.tasks.places import CANCEL_NEWEST, QUEUE, place_of
from executor_svc.tasks.ports import RetryPlan, Signal, TaskStore
from executor_svc.tasks.refusals import request_id_reused, signal_unknown, state_conflict
from executor_svc.tasks.retry import plan_retry
from executor_svc.tasks.tasks import Tasks, TaskView
from executor_svc.waking.announce import Announcer


class Steering:
    """Changes tasks of all tenants; each call names the tenant.

    A verb that finds its work done already, or whose request_id did it before, changes
    nothing and returns the task as it is. All of them raise StepwireError: TASK_NOT_FOUND,
    or TASK_STATE_CONFLICT where the task's state does not allow the verb.
    """

    def __init__(self, tasks: Tasks, store: TaskStore, announcer: Announcer) -> None:
        self._tasks = tasks
        self._store = store
        self._announcer = announcer

    async def cancel(self, task_id: UUID, *, tenant_id: str) -> TaskView:
        """Cancel a task for good."""
        await self._tasks.get(task_id, tenant_id=tenant_id)
        effects = await self._store.cancel(task_id)
        if effects is not None:
            self._announcer.announce(effects, cancelled=True)
        return await self._changed(task_id, tenant_id, "cancel", effects, TaskState.CANCELLED)

    async def pause(self, task_id: UUID, *, tenant_id: str, request_id: str) -> TaskView:
        """Hold a task: nothing new of it starts.

        A `request_id` pauses once: given again, it returns the task as it is, even when the
        task was resumed. Only the newest one is remembered; so it is with `resume`.
        """
        await self._tasks.get(task_id, tenant_id=tenant_id)
        effects = await self._store.pause(task_id, request_id=request_id)
        if effects is not None:
            self._announcer.announce(effects)
        return await self._changed(
            task_id, tenant_id, "pause", effects, TaskState.PAUSED, request_id=request_id
        )

    async def resume(self, task_id: UUID, *, tenant_id: str, request_id: str) -> TaskView:
        """Let a paused task go on; one that is neither paused nor final is left as it is."""
        await self._tasks.get(task_id, tenant_id=tenant_id)
        effects = await self._store.resume(task_id, request_id=request_id)
        if effects is not None:
            self._announcer.announce(effects)
        going_on = [state for state in TaskState if not state.is_final]
        return await self._changed(
            task_id, tenant_id, "resume", effects, *going_on, request_id=request_id
        )

    async def retry(self, task_id: UUID, *, tenant_id: str, request_id: str) -> TaskView:
        """Continue a FAILED task behind its last completed steps.

        A `request_id` retries once: given again, it returns the task as it is, even when the
        task has failed anew. Only the newest one is remembered.

        Raises:
            StepwireError: TASK_STATE_CONFLICT also for a task that was compensated.
        """
        task = await self._tasks.get(task_id, tenant_id=tenant_id, with_input=True)
        # An id of its own makes the call safe to repeat for the store.
        request_id = request_id or str(uuid4())
        place = await self._place_again(task)
        effects = await self._store.retry(
            task_id, request_id=request_id, place=place, plan=await self._retry_plan(task)
        )
        if effects is not None:
            self._announcer.announce(effects)
        task = await self._tasks.get(task_id, tenant_id=tenant_id)
        if effects is None and task.retry_request_id != request_id:
            compensated = task.state is TaskState.FAILED
            raise state_conflict(task, "retry", because="was compensated" if compensated else "")
        return TaskView(task)

    async def signal(self, task_id: UUID, *, tenant_id: str, signal: Signal) -> TaskView:
        """Send a signal to a task; without a request_id it is sent each time.

        Raises:
            StepwireError: SIGNAL_UNKNOWN, or REQUEST_ID_REUSED for a request_id that has
                sent another signal.
        """
        task = await self._tasks.get(task_id, tenant_id=tenant_id)
        if not await self._waits_for_signal(task, signal.name):
            raise signal_unknown(task_id, signal.name)
        # An id of its own makes the call safe to repeat for the store.
        signal = replace(signal, request_id=signal.request_id or str(uuid4()))
        effects = await self._store.signal(task_id, signal)
        if effects is not None:
            self._announcer.announce(effects)
        task = await self._tasks.get(task_id, tenant_id=tenant_id)
        if effects is None:
            sent = await self._store.find_signal(task_id, signal.request_id)
            if sent is None:
                raise state_conflict(task, "signal")
            if not _are_same(sent, signal):
                raise request_id_reused(signal.request_id, task_id)
        return TaskView(task)

    async def _changed(
        self,
        task_id: UUID,
        tenant_id: str,
        verb: str,
        effects: Effects | None,
        *wanted: TaskState,
        request_id: str = "",
    ) -> TaskView:
        """Return a task on which a verb was carried out, or that was in a state wanted."""
        task = await self._tasks.get(task_id, tenant_id=tenant_id)
        known = {"pause": task.pause_request_id, "resume": task.resume_request_id}
        is_known = bool(request_id) and known.get(verb) == request_id
        if effects is None and task.state not in wanted and not is_known:
            raise state_conflict(task, verb)
        return TaskView(task)

    async def _retry_plan(self, task: TaskRecord) -> RetryPlan:
        """Return what says which steps of a task begin anew."""
        graph = await self._tasks.graph_of(task.graph_hash)
        added = {
            graph_hash: await self._tasks.graph_of(graph_hash)
            for graph_hash in await self._store.added_graphs(task.task_id)
        }
        return partial(plan_retry, graph, added)

    async def _place_again(self, task: TaskRecord) -> Place | None:
        """Return the place that a task needs to go on; it lost its own when it failed."""
        assert task.input is not None
        place = place_of(await self._tasks.graph_of(task.graph_hash), task.input, field="task_id")
        if place is not None and place.policy == CANCEL_NEWEST:
            # Nobody who asks for a retry wants the task to be cancelled for good.
            return replace(place, policy=QUEUE)
        return place

    async def _waits_for_signal(self, task: TaskRecord, name: str) -> bool:
        """Whether a step of the task, or one that was added to it, can wait for a signal."""
        for graph_hash in (task.graph_hash, *await self._store.added_graphs(task.task_id)):
            graph = await self._tasks.graph_of(graph_hash)
            if any(step.kind == "wait_signal" and step.spec.name == name for step in graph.steps):
                return True
        return False


def _are_same(one: Signal, other: Signal) -> bool:
    return one.name == other.name and _in_order(one.payload) == _in_order(other.payload)


def _in_order(payload: bytes) -> bytes:
    """Return a JSON text with its members in one order: the same value can be written in others."""
    return orjson.dumps(orjson.loads(payload), option=orjson.OPT_SORT_KEYS)
