"""The client over real calls: waiting, watching through broken streams, errors."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import grpc.aio
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskEventType, TaskState
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.rpc import Server, Service
from stepwire.sdk import Client, NewTask, from_payload
from stepwire.sdk import client as sdk_client
from stepwire.sdk.follow import follow
from stepwire.sdk.graph import graph, transform
from stepwire.settings import ServiceSettings

RUNNING, SUCCEEDED = TaskState.TASK_STATE_RUNNING, TaskState.TASK_STATE_SUCCEEDED
EVENTS = 6
Context = grpc.aio.ServicerContext[Any, Any]
GRAPH = graph(transform("a", expression="1"))


class Executor(ExecutorServiceServicer):
    """Answers as a test wants it; every call is a real one."""

    def __init__(self) -> None:
        self.created: list[pb.CreateTaskRequest] = []
        self.watched_after: list[int] = []
        self.breaks = self.quiet_breaks = 0
        self.waits_until_final = 1
        self.waited_seconds: list[float] = []
        self.watching = self.most_watching = 0

    async def CreateTask(  # noqa: N802
        self, request: pb.CreateTaskRequest, context: Context
    ) -> pb.CreateTaskResponse:
        self.created.append(request)
        if not request.graph.steps:
            raise field_invalid("graph.steps", "must not be empty")
        return pb.CreateTaskResponse(task=Task(task_id="t", input=request.input))

    async def BatchCreateTasks(  # noqa: N802
        self, request: pb.BatchCreateTasksRequest, context: Context
    ) -> pb.BatchCreateTasksResponse:
        self.created += request.requests
        return pb.BatchCreateTasksResponse(task_ids=[str(n) for n in range(len(request.requests))])

    async def GetTask(  # noqa: N802
        self, request: pb.GetTaskRequest, context: Context
    ) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=Task(task_id=request.task_id, state=RUNNING))

    async def ListTasks(  # noqa: N802
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        page = int(request.page_token or 0)
        return pb.ListTasksResponse(
            tasks=[Task(task_id=f"{page}{letter}") for letter in "ab"],
            next_page_token=str(page + 1) if page < 2 else "",
        )

    async def WaitTask(  # noqa: N802
        self, request: pb.WaitTaskRequest, context: Context
    ) -> pb.WaitTaskResponse:
        self.waited_seconds.append(request.timeout.ToTimedelta().total_seconds())
        self.waits_until_final -= 1
        state = RUNNING if self.waits_until_final else SUCCEEDED
        return pb.WaitTaskResponse(task=Task(task_id=request.task_id, state=state))

    async def WatchTask(  # noqa: N802
        self, request: pb.WatchTaskRequest, context: Context
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        self.watched_after.append(request.after_cursor)
        self.watching += 1
        self.most_watching = max(self.most_watching, self.watching)
        try:
            if self.quiet_breaks:
                self.quiet_breaks -= 1
                await context.send_initial_metadata(())
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            for cursor in range(request.after_cursor + 1, EVENTS + 1):
                await asyncio.sleep(0)
                yield pb.WatchTaskResponse(
                    event=TaskEvent(
                        task_id=request.task_id,
                        cursor=cursor,
                        type=TaskEventType.TASK_EVENT_TYPE_STEP_STARTED,
                    )
                )
                if cursor % 2 == 0 and self.breaks:
                    self.breaks -= 1
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        finally:
            self.watching -= 1

    async def CancelTask(  # noqa: N802
        self, request: pb.CancelTaskRequest, context: Context
    ) -> pb.CancelTaskResponse:
        return pb.CancelTaskResponse(task=Task(task_id=request.task_id))

    async def RetryTask(  # noqa: N802
        self, request: pb.RetryTaskRequest, context: Context
    ) -> pb.RetryTaskResponse:
        return pb.RetryTaskResponse(task=Task(task_id=request.task_id))


@pytest.fixture
def executor() -> Executor:
    return Executor()


@pytest.fixture
async def client(executor: Executor) -> AsyncIterator[Client]:
    service = Service(
        "stepwire.api.executor.v1.ExecutorService",
        partial(add_ExecutorServiceServicer_to_server, executor),
    )
    async with (
        Server("test", ServiceSettings(port=0), [service]) as server,
        Client(server.address) as made,
    ):
        yield made


async def test_a_value_becomes_the_input_and_a_request_id_is_made(
    client: Client, executor: Executor
) -> None:
    task = await client.create(GRAPH, {"a": [1, "b"]}, labels={"k": "v"})
    assert from_payload(task.input) == {"a": [1, "b"]}
    await client.create(GRAPH, request_id="mine")
    first, second = executor.created
    assert (len(first.request_id), dict(first.labels)) == (36, {"k": "v"})
    assert second.request_id == "mine"
    assert from_payload(second.input) is None


async def test_a_batch_keeps_its_order(client: Client, executor: Executor) -> None:
    ids = await client.batch_create([NewTask(GRAPH, number) for number in range(3)])
    assert ids == ["0", "1", "2"]
    assert [from_payload(request.input) for request in executor.created] == [0, 1, 2]
    assert len({request.request_id for request in executor.created}) == 3


async def test_pages_are_fetched_as_they_are_needed(client: Client) -> None:
    assert [task.task_id async for task in client.find()] == ["0a", "0b", "1a", "1b", "2a", "2b"]


async def test_waiting_goes_on_until_the_task_is_final(client: Client, executor: Executor) -> None:
    executor.waits_until_final = 3
    assert (await client.wait("t")).state == SUCCEEDED
    assert len(executor.waited_seconds) == 3
    assert all(seconds == 60 for seconds in executor.waited_seconds)


async def test_waiting_no_time_reads_the_task(client: Client, executor: Executor) -> None:
    assert (await client.wait("t", timeout=timedelta(0))).state == RUNNING
    assert executor.waited_seconds == []


async def test_a_broken_watch_is_taken_up_behind_the_last_event(
    client: Client, executor: Executor
) -> None:
    executor.breaks = 2
    cursors = [event.cursor async for event in client.watch("t", after_cursor=1)]
    assert cursors == [2, 3, 4, 5, 6]
    assert executor.watched_after == [1, 2, 4]


async def test_a_watch_that_was_quiet_for_long_is_taken_up_again(
    client: Client, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a task that sleeps: how long nothing has come says nothing about the stream."""
    monkeypatch.setattr(sdk_client, "_WATCH_PATIENCE_SECONDS", 0.0)
    executor.quiet_breaks = 1
    assert [event.cursor async for event in client.watch("t", after_cursor=4)] == [5, 6]
    assert executor.watched_after == [4, 4]


async def test_many_tasks_are_followed_with_a_bounded_number_of_streams(
    client: Client, executor: Executor
) -> None:
    seen: list[tuple[str, int]] = []
    ids = [f"task-{number}" for number in range(150)]
    events = await follow(client, ids, lambda event: seen.append((event.task_id, event.cursor)))
    assert list(events) == ids
    assert all([event.cursor for event in one] == list(range(1, 7)) for one in events.values())
    assert len(seen) == 150 * EVENTS
    assert executor.most_watching <= 64


async def test_a_refused_call_raises_the_reason_with_the_field(client: Client) -> None:
    with pytest.raises(StepwireError) as caught:
        await client.create(graph())
    assert caught.value.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in caught.value.faults] == ["graph.steps"]


async def test_a_method_that_is_not_there_is_an_internal_error(client: Client) -> None:
    with pytest.raises(StepwireError, match="UNIMPLEMENTED") as caught:
        await client.models.catalogue()
    assert caught.value.reason is Reason.INTERNAL


async def test_a_server_that_is_not_there_is_an_unavailable_dependency() -> None:
    async with Client("127.0.0.1:1") as lost:
        with pytest.raises(StepwireError) as caught:
            await lost.get("t")
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata["dependency"] == "127.0.0.1:1"
