"""Accepting tasks: concurrent calls meet in one commit, then workers are woken."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from executor_svc.engine.ports import Effects, Existing, RequestKey
from executor_svc.engine.records import Blob, NewStep, NewTask, Place, StepRef, Trait
from executor_svc.graphs.graph import Graph
from executor_svc.metrics import ExecutorMetrics
from executor_svc.tasks.ports import AttemptsOverError, NewTaskStore
from executor_svc.tasks.recent import Recent, RecentTasks
from executor_svc.tasks.refusals import attempt_over, request_id_reused
from executor_svc.tasks.stored_graphs import StoredGraphs
from executor_svc.tasks.task_ids import created_at
from executor_svc.waking.announce import Announcer
from executor_svc.waking.window import Window
from stepwire.batcher import Batcher, Rest
from stepwire.errors import StepwireError
from stepwire.failpoints import failpoint
from stepwire.ids import uuid7

# Where many are created one by one, all that follows from a commit (wakeups, claims,
# settlements) costs less by the task when commits are fewer.
REST = Rest(seconds=0.012, above_per_second=800)
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request for a task.

    Attributes:
        digest: SHA-256 of what the request asked for; empty without a request_id.
        timeout: longest life of the task, from when it may start; None for no limit.
        start_after: when its first steps may start; None for at once.
        place: what it needs under its concurrency key.
        parent: the attempt whose subtask it is.
        depth: how many tasks above it are its parents or its cause.
        notify: whether its events are for subscriptions.
    """

    tenant_id: str
    graph: Graph
    input: Blob
    request_id: str = ""
    digest: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    priority: int = DEFAULT_PRIORITY
    timeout: timedelta | None = None
    start_after: datetime | None = None
    place: Place | None = None
    workflow: str = ""
    workflow_version: str = ""
    parent: StepRef | None = None
    depth: int = 0
    notify: bool = True

    def deadline(self, accepted_at: datetime) -> datetime | None:
        """Return when the task fails if it has not ended."""
        if self.timeout is None:
            return None
        return max(accepted_at, self.start_after or accepted_at) + self.timeout


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is in the record; `created_at` is None if it was there before."""

    task_id: UUID
    created_at: datetime | None


class Creator:
    """Creates tasks. All submissions that wait while a commit is under way share the next.

    `has_subscriptions` says of a tenant whether somebody may want to hear of its tasks;
    `on_held` is called when steps were left in the record, to be published in their turn.
    """

    def __init__(
        self,
        store: NewTaskStore,
        announcer: Announcer,
        metrics: ExecutorMetrics,
        window: Window,
        *,
        max_batch: int,
        max_waiting: int,
        recent: RecentTasks | None = None,
        has_subscriptions: Callable[[str], bool] = lambda _: False,
        on_held: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._window = window
        self._on_held = on_held
        self._announcer = announcer
        self._metrics = metrics
        self._recent = recent
        self._has_subscriptions = has_subscriptions
        self._stored = StoredGraphs()
        self._batcher: Batcher[Sequence[Submission], Sequence[Accepted]] = Batcher(
            "create", self._flush, max_batch=max_batch, max_waiting=max_waiting, rest=REST
        )

    async def create(self, submissions: Sequence[Submission]) -> Sequence[Accepted]:
        """Create tasks, all or none; return them in order after the commit.

        A submission whose request_id is known gives the id of the task it has.

        Raises:
            StepwireError: REQUEST_ID_REUSED, OVERLOADED or DEPENDENCY_UNAVAILABLE; for the
                subtask of an attempt that does not run any more TASK_STATE_CONFLICT.
        """
        return await self._batcher.submit(submissions)

    async def drain(self) -> None:
        """Wait until everything submitted is committed."""
        await self._batcher.drain()

    async def _flush(
        self, batch: Sequence[Sequence[Submission]]
    ) -> Sequence[Sequence[Accepted] | BaseException]:
        await failpoint("create.before")
        tasks = [
            [new_task(each, notify=self._notify(each)) for each in submissions]
            for submissions in batch
        ]
        await self._store_graphs([each for submissions in batch for each in submissions])
        over: set[UUID] = set()
        while True:
            known = await self._store.find([task for each in tasks for task in each])
            results, wanted = _plan(tasks, known, over)
            effects = after_creation(wanted)
            held = self._held(effects)
            try:
                if not wanted or await self._store.create(wanted, unpublished=held):
                    break
                # Another executor was faster with a request_id: it is known now.
            except AttemptsOverError as error:
                over.update(error.tasks)
        self._announcer.announce(effects, held=held)
        self._remember(batch, results)
        if held:
            self._on_held()
        self._metrics.accepted(len(wanted))
        return results

    def _remember(
        self,
        batch: Sequence[Sequence[Submission]],
        results: Sequence[Sequence[Accepted] | BaseException],
    ) -> None:
        """Keep the tasks that came alone: who sends many at once does not wait for each."""
        if self._recent is None:
            return
        for submissions, result in zip(batch, results, strict=True):
            if len(submissions) > 1 or isinstance(result, BaseException):
                continue
            for submission, accepted in zip(submissions, result, strict=True):
                if accepted.created_at is not None:
                    sinks = [step.name for step in submission.graph.sinks]
                    self._recent.remember(accepted.task_id, Recent(submission.tenant_id, sinks))

    def _held(self, effects: Effects) -> Collection[str]:
        """Return the queues in which no more steps are to wait."""
        counts = Counter(ref.queue for ref in effects.ready)
        return [queue for queue, count in counts.items() if not self._window.allows(queue, count)]

    def _notify(self, submission: Submission) -> bool:
        return submission.notify and self._has_subscriptions(submission.tenant_id)

    async def _store_graphs(self, submissions: Sequence[Submission]) -> None:
        asked = self._stored.now()
        new = self._stored.missing(each.graph for each in submissions)
        if new:
            await self._store.add_graphs(new)
            self._stored.remember(new, asked=asked)


def new_task(submission: Submission, *, notify: bool = False) -> NewTask:
    """Return the task that a submission makes; `notify` leaves its end to subscriptions."""
    graph = submission.graph
    task_id = uuid7()
    now = created_at(task_id)
    traits = graph.traits
    if submission.parent is not None:
        traits |= Trait.CHILD
    if notify:
        traits |= Trait.SUBSCRIBED
    return NewTask(
        task_id=task_id,
        tenant_id=submission.tenant_id,
        request_id=submission.request_id or None,
        digest=submission.digest,
        graph_hash=graph.graph_hash,
        open_sinks=len(graph.sinks),
        traits=traits,
        priority=submission.priority,
        input=submission.input,
        labels=submission.labels,
        traceparent=submission.traceparent,
        created_at=now,
        steps=graph.new_steps(submission.priority),
        start_after=submission.start_after,
        deadline=submission.deadline(now),
        timeout=submission.timeout,
        place=submission.place,
        workflow=submission.workflow,
        workflow_version=submission.workflow_version,
        parent=submission.parent,
        depth=submission.depth,
    )


def after_creation(tasks: Sequence[NewTask]) -> Effects:
    """Return what the commit that has created tasks asks for."""
    ready: list[StepRef] = []
    asked: list[tuple[str, str]] = []
    for task in tasks:
        if task.place is not None:
            # Its steps are held; who grants places looks whether there is one.
            asked.append((task.tenant_id, task.place.key))
        elif task.start_after is None:
            ready += [
                StepRef(task.task_id, step.step_id, 1, step.queue)
                for step in task.steps
                if is_ready(step)
            ]
    return Effects(ready=ready, released=asked)


def is_ready(step: NewStep) -> bool:
    """Whether nothing keeps a step from starting, or its join can never be satisfied."""
    return not step.open or step.needs > step.open


def _key(task: NewTask) -> RequestKey:
    return task.tenant_id, task.request_id


def _plan(
    submissions: Sequence[Sequence[NewTask]],
    known: Mapping[RequestKey, Existing],
    over: Collection[UUID],
) -> tuple[list[Sequence[Accepted] | BaseException], list[NewTask]]:
    """Decide what each submission is answered, and which tasks to create for it.

    A submission is refused whole. Where several name the same request_id, the first one
    makes the task. For subtasks that are `over` nobody would wait.
    """
    taken = dict(known)
    results: list[Sequence[Accepted] | BaseException] = []
    wanted: list[NewTask] = []
    for tasks in submissions:
        answer = _answer(tasks, taken, over)
        results.append(answer)
        if isinstance(answer, BaseException):
            continue
        for task, accepted in zip(tasks, answer, strict=True):
            if accepted.created_at is None:
                continue
            wanted.append(task)
            if task.request_id is not None:
                taken[_key(task)] = Existing(task.task_id, task.digest)
    return results, wanted


def _answer(
    tasks: Sequence[NewTask], known: Mapping[RequestKey, Existing], over: Collection[UUID]
) -> Sequence[Accepted] | StepwireError:
    accepted: list[Accepted] = []
    for task in tasks:
        if task.parent is not None and task.task_id in over:
            return attempt_over(task.parent)
        found = known.get(_key(task))
        if found is None:
            accepted.append(Accepted(task.task_id, task.created_at))
        elif found.digest == task.digest:
            accepted.append(Accepted(found.task_id, None))
        else:
            return request_id_reused(task.request_id or "", found.task_id)
    return accepted
