"""Accepting tasks: concurrent calls meet in one commit, then workers are woken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from executor_svc.announce import Announcer
from executor_svc.graph import Graph
from executor_svc.metrics import ExecutorMetrics
from executor_svc.ports import Effects, Existing, RequestKey, TaskStore
from executor_svc.records import Blob, NewStep, NewTask, StepRef
from stepwire.batcher import Batcher
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7

MAX_REMEMBERED_GRAPHS = 100_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request for a task."""

    tenant_id: str
    graph: Graph
    input: Blob
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is in the record; `created_at` is None if it was there before."""

    task_id: UUID
    created_at: datetime | None


class Creator:
    """Creates tasks. All submissions that wait while a commit is under way share the next."""

    def __init__(
        self,
        store: TaskStore,
        announcer: Announcer,
        metrics: ExecutorMetrics,
        *,
        max_batch: int,
        max_waiting: int,
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._metrics = metrics
        # Some of the graphs that are in the record; they are never taken out of it.
        self._stored: set[bytes] = set()
        self._batcher: Batcher[Sequence[Submission], Sequence[Accepted]] = Batcher(
            "create", self._flush, max_batch=max_batch, max_waiting=max_waiting
        )

    async def create(self, submissions: Sequence[Submission]) -> Sequence[Accepted]:
        """Create tasks, all or none; return them in order after the commit.

        A submission whose request_id is known gives the id of the task it has.

        Raises:
            StepwireError: REQUEST_ID_REUSED, OVERLOADED or DEPENDENCY_UNAVAILABLE.
        """
        return await self._batcher.submit(submissions)

    async def drain(self) -> None:
        """Wait until everything submitted is committed."""
        await self._batcher.drain()

    async def _flush(
        self, batch: Sequence[Sequence[Submission]]
    ) -> Sequence[Sequence[Accepted] | BaseException]:
        tasks = [[_new_task(submission) for submission in submissions] for submissions in batch]
        await self._store_graphs([each for submissions in batch for each in submissions])
        while True:
            known = await self._store.find([task for each in tasks for task in each])
            results, wanted = _plan(tasks, known)
            if not wanted or await self._store.create(wanted):
                break
            # Another executor was faster with a request_id: it is known now.
        ready = [
            StepRef(task.task_id, step.step_id, 1, step.queue)
            for task in wanted
            for step in task.steps
            if step.dependencies == 0
        ]
        self._announcer.announce(Effects(ready=ready))
        self._metrics.accepted(len(wanted))
        return results

    async def _store_graphs(self, submissions: Sequence[Submission]) -> None:
        new = {
            submission.graph.graph_hash: submission.graph
            for submission in submissions
            if submission.graph.graph_hash not in self._stored
        }
        if new:
            await self._store.add_graphs(list(new.values()))
            if len(self._stored) >= MAX_REMEMBERED_GRAPHS:
                self._stored.clear()
            self._stored |= new.keys()


def _new_task(submission: Submission) -> NewTask:
    graph = submission.graph
    return NewTask(
        task_id=uuid7(),
        tenant_id=submission.tenant_id,
        request_id=submission.request_id or None,
        graph_hash=graph.graph_hash,
        open_sinks=len(graph.sinks),
        input=submission.input,
        labels=submission.labels,
        traceparent=submission.traceparent,
        created_at=datetime.now(UTC),
        steps=[
            NewStep(step.name, step.ordinal, len(step.depends_on), step.queue)
            for step in graph.initial
        ],
    )


def _key(task: NewTask) -> RequestKey:
    return task.tenant_id, task.request_id


def _plan(
    submissions: Sequence[Sequence[NewTask]], known: Mapping[RequestKey, Existing]
) -> tuple[list[Sequence[Accepted] | BaseException], list[NewTask]]:
    """Decide what each submission is answered, and which tasks to create for it.

    A submission is refused whole. Where several name the same request_id, the first one
    makes the task.
    """
    taken = dict(known)
    results: list[Sequence[Accepted] | BaseException] = []
    wanted: list[NewTask] = []
    for tasks in submissions:
        answer = _answer(tasks, taken)
        results.append(answer)
        if isinstance(answer, BaseException):
            continue
        for task, accepted in zip(tasks, answer, strict=True):
            if accepted.created_at is None:
                continue
            wanted.append(task)
            if task.request_id is not None:
                taken[_key(task)] = Existing(task.task_id, task.graph_hash, task.input.data)
    return results, wanted


def _answer(
    tasks: Sequence[NewTask], known: Mapping[RequestKey, Existing]
) -> Sequence[Accepted] | StepwireError:
    accepted: list[Accepted] = []
    for task in tasks:
        found = known.get(_key(task))
        if found is None:
            accepted.append(Accepted(task.task_id, task.created_at))
        elif (found.graph_hash, found.input) == (task.graph_hash, task.input.data):
            accepted.append(Accepted(found.task_id, None))
        else:
            return StepwireError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {task.request_id!r} was used for another request",
                metadata={
                    "request_id": task.request_id or "",
                    "task_id": str(found.task_id),
                },
            )
    return accepted
