"""A client for programs: everything that Stepwire offers, through the gateway."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, Unpack

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceAsyncStub,
    ExecutorServiceStub,
)
from stepwire.api.executor.v1.graph_pb2 import Graph, WorkflowRef
from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskState
from stepwire.api.vector.v1.search_pb2 import ScoredPoint
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.address import open_gateway, read_address
from stepwire.sdk.collections import Collections
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.keys import Keys
from stepwire.sdk.memories import Memories
from stepwire.sdk.models import Models
from stepwire.sdk.queues import Queues
from stepwire.sdk.requests import Conditions, NewTask, TaskOptions, new_request_id, task_filter
from stepwire.sdk.schedules import Schedules
from stepwire.sdk.subscriptions import Subscriptions
from stepwire.sdk.values import to_duration, to_payload
from stepwire.sdk.vectors import Vectors
from stepwire.sdk.workflows import Workflows

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


class Client:
    """Creates tasks and follows them; searches and asks the models.

    To be used as an async context manager. Every method raises `StepwireError`; calls
    answered with UNAVAILABLE are made again a few times before that.

    Args:
        target: Host and port of the gateway, or `https://host:port` for TLS.
        timeout: Longest time for one call; waiting and watching may last longer.
        api_key: With which to call; None takes that of the variable STEPWIRE_API_KEY, if it
            is set, and "" none.
        ca_file: PEM file of the authorities that are trusted to vouch for the gateway; None
            takes that of STEPWIRE_CA_FILE, and without any gRPC's own list is taken.

    Attributes:
        target: Host and port of the gateway.
        workflows: The registered workflows.
        schedules: Tasks that are created again and again.
        subscriptions: Where the events of tasks go.
        queues: Queues, workers, and steps that failed.
        keys: Who may call the gateway.
        vectors: The vector service: points and searches.
        collections: The vector service: collections as wholes.
        memories: What agents remember.
        models: The model and router services.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: timedelta = timedelta(seconds=30),
        api_key: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.target = target
        self._timeout_seconds = timeout.total_seconds()
        address = read_address(target)
        self._channel = open_gateway(address, api_key=api_key, ca_file=ca_file)
        self._executor: ExecutorServiceAsyncStub = ExecutorServiceStub(self._channel)
        self.workflows = Workflows(self._channel, target=target, timeout=timeout)
        self.schedules = Schedules(self._channel, target=target, timeout=timeout)
        self.subscriptions = Subscriptions(self._channel, target=target, timeout=timeout)
        self.queues = Queues(self._channel, target=target, timeout=timeout)
        self.keys = Keys(self._channel, target=target, timeout=timeout)
        self.vectors = Vectors(self._channel, target=target, timeout=timeout)
        self.collections = Collections(self._channel, target=target, timeout=timeout)
        self.memories = Memories(self._channel, target=target, timeout=timeout)
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
        what: Graph | WorkflowRef,
        value: Any = None,
        *,
        validate_only: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """Creates a task with a JSON value as its input; returns it as accepted.

        Args:
            what: The graph or the workflow to run.
            value: The task's input.
            validate_only: Only checks the request: the task has no id and is not recorded.
            **options: See `NewTask`.
        """
        return await self.submit(NewTask(what, value, **options), validate_only=validate_only)

    async def submit(self, new: NewTask, *, validate_only: bool = False) -> Task:
        """Creates a task, as `create` does, and returns it as accepted."""
        request = new.request(validate_only=validate_only)
        with raising_ours(self.target):
            response = await self._executor.CreateTask(request, timeout=self._timeout_seconds)
        return response.task

    async def batch_create(self, tasks: Sequence[NewTask]) -> list[str]:
        """Creates all of the tasks or none; returns their ids in order."""
        request = pb.BatchCreateTasksRequest(requests=[new.request() for new in tasks])
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
        self, *, page_size: int = 100, **conditions: Unpack[Conditions]
    ) -> AsyncIterator[Task]:
        """Yields the tasks that meet the conditions, newest first, `page_size` at a time."""
        request = pb.ListTasksRequest(page_size=page_size, filter=task_filter(conditions))
        while True:
            with raising_ours(self.target):
                response = await self._executor.ListTasks(request, timeout=self._timeout_seconds)
            for task in response.tasks:
                yield task
            request.page_token = response.next_page_token
            if not request.page_token:
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
        cursor, failing_since = after_cursor, None
        while True:
            began = loop.time()
            try:
                request = pb.WatchTaskRequest(task_id=task_id, after_cursor=cursor)
                with raising_ours(self.target):
                    async for response in self._executor.WatchTask(request):
                        cursor, failing_since = response.event.cursor, None
                        yield response.event
            except StepwireError as error:
                now = loop.time()
                # A stream that was quiet for so long did stand.
                if failing_since is None or now - began > _WATCH_PATIENCE_SECONDS:
                    failing_since = now
                impatient = now - failing_since > _WATCH_PATIENCE_SECONDS
                if error.reason is not Reason.DEPENDENCY_UNAVAILABLE or impatient:
                    raise
                await asyncio.sleep(_WATCH_PAUSE_SECONDS)
            else:
                return

    async def cancel(self, task_id: str) -> Task:
        """Cancels a task for good and returns it."""
        request = pb.CancelTaskRequest(task_id=task_id, request_id=new_request_id())
        with raising_ours(self.target):
            response = await self._executor.CancelTask(request, timeout=self._timeout_seconds)
        return response.task

    async def retry(self, task_id: str) -> Task:
        """Continues a failed task after its last completed steps and returns it."""
        request = pb.RetryTaskRequest(task_id=task_id, request_id=new_request_id())
        with raising_ours(self.target):
            response = await self._executor.RetryTask(request, timeout=self._timeout_seconds)
        return response.task

    async def pause(self, task_id: str) -> Task:
        """Lets nothing new of a task start, until `resume`, and returns it."""
        request = pb.PauseTaskRequest(task_id=task_id, request_id=new_request_id())
        with raising_ours(self.target):
            response = await self._executor.PauseTask(request, timeout=self._timeout_seconds)
        return response.task

    async def resume(self, task_id: str) -> Task:
        """Lets a paused task go on and returns it."""
        request = pb.ResumeTaskRequest(task_id=task_id, request_id=new_request_id())
        with raising_ours(self.target):
            response = await self._executor.ResumeTask(request, timeout=self._timeout_seconds)
        return response.task

    async def fork(
        self,
        task_id: str,
        from_step: str,
        *,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Task:
        """Makes a new task that keeps a task's results before a step, and returns it.

        Args:
            task_id: The task to start from, in any state.
            from_step: The step from which the new task runs.
            labels: Those of the new task; None or empty means those of the old one.
            request_id: Idempotency key; empty takes a new one.
        """
        request = pb.ForkTaskRequest(
            task_id=task_id,
            from_step=from_step,
            request_id=request_id or new_request_id(),
            labels=labels or {},
        )
        with raising_ours(self.target):
            response = await self._executor.ForkTask(request, timeout=self._timeout_seconds)
        return response.task

    async def signal(
        self, task_id: str, name: str, value: Any = None, *, request_id: str = ""
    ) -> Task:
        """Sends a signal with a JSON value to a task, and returns the task.

        Args:
            task_id: The task.
            name: The signal's name.
            value: What the waiting step gives as its output.
            request_id: Idempotency key; empty takes a new one.
        """
        request = pb.SignalTaskRequest(
            task_id=task_id,
            name=name,
            payload=to_payload(value),
            request_id=request_id or new_request_id(),
        )
        with raising_ours(self.target):
            response = await self._executor.SignalTask(request, timeout=self._timeout_seconds)
        return response.task

    async def bulk(
        self,
        action: "pb.TaskAction.ValueType",
        *,
        from_step: str = "",
        validate_only: bool = False,
        page_size: int = 100,
        **conditions: Unpack[Conditions],
    ) -> AsyncIterator[pb.BulkUpdateTasksResponse]:
        """Does the same with all tasks that meet the conditions; yields what came of each page.

        Args:
            action: What to do.
            from_step: For FORK, the step from which the new tasks run.
            validate_only: Only tells which tasks there are.
            page_size: How many tasks at a time.
            **conditions: Which tasks; at least one condition.
        """
        request = pb.BulkUpdateTasksRequest(
            filter=task_filter(conditions),
            action=action,
            from_step=from_step,
            page_size=page_size,
            request_id=new_request_id(),
            validate_only=validate_only,
        )
        while True:
            with raising_ours(self.target):
                response = await self._executor.BulkUpdateTasks(
                    request, timeout=self._timeout_seconds
                )
            yield response
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def search(
        self, collection: str, text: str, *, limit: int = 10, model: str = ""
    ) -> Sequence[ScoredPoint]:
        """Finds the points of a collection that are nearest in meaning to a text, best first."""
        (vector,) = await self.models.embed([text], model=model)
        return await self.vectors.search(collection, vector, limit=limit)

    async def _wait_once(self, task_id: str, seconds: float) -> Task:
        timeout = to_duration(timedelta(seconds=seconds))
        with raising_ours(self.target):
            response = await self._executor.WaitTask(
                pb.WaitTaskRequest(task_id=task_id, timeout=timeout),
                timeout=seconds + self._timeout_seconds,
            )
        return response.task
