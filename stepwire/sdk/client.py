"""A client for programs: everything that Stepwire offers, through the gateway."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.duration_pb2 import Duration

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceAsyncStub,
    ExecutorServiceStub,
)
from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskState
from stepwire.api.vector.v1.vector_service_pb2 import ScoredPoint
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.models import Models
from stepwire.sdk.values import to_payload
from stepwire.sdk.vectors import Vectors

FINAL_STATES: Final = frozenset(
    {
        TaskState.TASK_STATE_SUCCEEDED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELLED,
    }
)

_WAIT_SECONDS = 60.0
_WATCH_PATIENCE_SECONDS = 60.0
_WATCH_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create.

    Attributes:
        graph: What to do.
        input: The task's input: any JSON value.
        request_id: Idempotency key; empty takes a new one, which protects the call itself
            against doubled sending.
        labels: For filters and for people.
    """

    graph: Graph
    input: Any = None
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Client:
    """Creates tasks and follows them; searches and asks the models.

    To be used as an async context manager. Every method raises `StepwireError`; calls
    answered with UNAVAILABLE are made again a few times before that.

    Args:
        target: Host and port of the gateway.
        timeout: Longest time for one call; waiting and watching may last longer.

    Attributes:
        target: Host and port of the gateway.
        vectors: The vector service.
        models: The model and router services.
    """

    def __init__(self, target: str, *, timeout: timedelta = timedelta(seconds=30)) -> None:
        self.target = target
        self._timeout_seconds = timeout.total_seconds()
        # Safe to call twice: changing calls carry a request id, or write what is given.
        self._channel = open_channel(target)
        self._executor: ExecutorServiceAsyncStub = ExecutorServiceStub(self._channel)
        self.vectors = Vectors(self._channel, target=target, timeout=timeout)
        self.models = Models(self._channel, target=target, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def create(
        self,
        graph: Graph,
        value: Any = None,
        *,
        request_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Task:
        """Creates a task with a JSON value as its input; returns it as accepted."""
        new = NewTask(graph, value, request_id, labels or {})
        with raising_ours(self.target):
            response = await self._executor.CreateTask(
                _create_request(new), timeout=self._timeout_seconds
            )
        return response.task

    async def batch_create(self, tasks: Sequence[NewTask]) -> list[str]:
        """Creates all of the tasks or none; returns their ids in order."""
        request = pb.BatchCreateTasksRequest(requests=[_create_request(new) for new in tasks])
        with raising_ours(self.target):
            response = await self._executor.BatchCreateTasks(request, timeout=self._timeout_seconds)
        return list(response.task_ids)

    async def get(self, task_id: str, *, steps: bool = False, outputs: bool = False) -> Task:
        """Reads a task; with its steps and their outputs if asked."""
        request = pb.GetTaskRequest(
            task_id=task_id, include_steps=steps or outputs, include_outputs=outputs
        )
        with raising_ours(self.target):
            response = await self._executor.GetTask(request, timeout=self._timeout_seconds)
        return response.task

    async def find(
        self,
        *,
        state: "TaskState.ValueType" = TaskState.TASK_STATE_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Task]:
        """Yields tasks, newest first, fetching `page_size` at a time."""
        token = ""
        while True:
            request = pb.ListTasksRequest(
                page_size=page_size, page_token=token, state=state, labels=labels or {}
            )
            with raising_ours(self.target):
                response = await self._executor.ListTasks(request, timeout=self._timeout_seconds)
            for task in response.tasks:
                yield task
            token = response.next_page_token
            if not token:
                return

    async def wait(self, task_id: str, *, timeout: timedelta | None = None) -> Task:  # noqa: ASYNC109
        """Waits until a task is final and returns it.

        Args:
            task_id: The task.
            timeout: Longest wait; None waits for as long as it takes.

        Returns:
            The task; not final when the time was up.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout.total_seconds()
        while True:
            left = _WAIT_SECONDS if end is None else max(0.0, end - loop.time())
            span = min(_WAIT_SECONDS, left)
            # 0 would mean "as long as the server lets": a task is then read instead.
            task = await (self._wait_once(task_id, span) if span else self.get(task_id))
            if task.state in FINAL_STATES or not span:
                return task

    async def watch(self, task_id: str, *, after_cursor: int = 0) -> AsyncIterator[TaskEvent]:
        """Yields a task's events, past ones first, in order and without gap.

        Ends after the event that makes the task final. A stream that breaks is taken up
        again behind the last event; after a minute without success its error is raised.
        """
        loop = asyncio.get_running_loop()
        cursor, last_success = after_cursor, loop.time()
        while True:
            try:
                request = pb.WatchTaskRequest(task_id=task_id, after_cursor=cursor)
                with raising_ours(self.target):
                    async for response in self._executor.WatchTask(request):
                        cursor, last_success = response.event.cursor, loop.time()
                        yield response.event
            except StepwireError as error:
                impatient = loop.time() - last_success > _WATCH_PATIENCE_SECONDS
                if error.reason is not Reason.DEPENDENCY_UNAVAILABLE or impatient:
                    raise
                await asyncio.sleep(_WATCH_PAUSE_SECONDS)
            else:
                return

    async def cancel(self, task_id: str) -> Task:
        """Cancels a task for good and returns it."""
        request = pb.CancelTaskRequest(task_id=task_id, request_id=_new_request_id())
        with raising_ours(self.target):
            response = await self._executor.CancelTask(request, timeout=self._timeout_seconds)
        return response.task

    async def retry(self, task_id: str) -> Task:
        """Continues a failed task after its last completed steps and returns it."""
        request = pb.RetryTaskRequest(task_id=task_id, request_id=_new_request_id())
        with raising_ours(self.target):
            response = await self._executor.RetryTask(request, timeout=self._timeout_seconds)
        return response.task

    async def search(
        self, collection: str, text: str, *, limit: int = 10, model: str = ""
    ) -> Sequence[ScoredPoint]:
        """Finds the points of a collection that are nearest in meaning to a text, best first."""
        (vector,) = await self.models.embed([text], model=model)
        return await self.vectors.search(collection, vector, limit=limit)

    async def _wait_once(self, task_id: str, seconds: float) -> Task:
        timeout = Duration()
        timeout.FromTimedelta(timedelta(seconds=seconds))
        with raising_ours(self.target):
            response = await self._executor.WaitTask(
                pb.WaitTaskRequest(task_id=task_id, timeout=timeout),
                timeout=seconds + self._timeout_seconds,
            )
        return response.task


def _create_request(new: NewTask) -> pb.CreateTaskRequest:
    return pb.CreateTaskRequest(
        graph=new.graph,
        input=to_payload(new.input),
        request_id=new.request_id or _new_request_id(),
        labels=new.labels,
    )


def _new_request_id() -> str:
    return str(uuid.uuid4())
