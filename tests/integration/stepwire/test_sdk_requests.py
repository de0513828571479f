"""What the client's verbs ask for, over real calls."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc.aio
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from stepwire.api.executor.v1.task_pb2 import Task, TaskState
from stepwire.rpc import Server, Service
from stepwire.sdk import Client, NewTask, from_payload
from stepwire.sdk.graph import graph, transform, workflow
from stepwire.sdk.requests import Conditions
from stepwire.settings import ServiceSettings

MOMENT = datetime(2026, 11, 21, 10, tzinfo=UTC)
GRAPH = graph(transform("a", expression="1"))
CONDITIONS = Conditions(
    state=TaskState.TASK_STATE_FAILED,
    labels={"a": "b"},
    workflow="w",
    workflow_version="1",
    failure_reason="STEP_TIMED_OUT",
    created_from=MOMENT,
    created_before=MOMENT + timedelta(days=1),
)
FILTER = {
    "state": TaskState.TASK_STATE_FAILED,
    "labels": {"a": "b"},
    "workflow": "w",
    "workflow_version": "1",
    "failure_reason": "STEP_TIMED_OUT",
    "created_from": {"seconds": int(MOMENT.timestamp())},
    "created_before": {"seconds": int(MOMENT.timestamp()) + 86_400},
}
Context = grpc.aio.ServicerContext[Any, Any]


class Recorder(ExecutorServiceServicer):
    """Keeps the requests and answers every verb with a task."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def _task(self, request: Any, response: Any) -> Any:
        self.requests.append(request)
        return response(task=Task(task_id="answer"))

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._task(request, pb.CreateTaskResponse)

    async def PauseTask(self, request: pb.PauseTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._task(request, pb.PauseTaskResponse)

    async def ResumeTask(self, request: pb.ResumeTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._task(request, pb.ResumeTaskResponse)

    async def ForkTask(self, request: pb.ForkTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._task(request, pb.ForkTaskResponse)

    async def SignalTask(self, request: pb.SignalTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._task(request, pb.SignalTaskResponse)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> Any:  # noqa: N802
        self.requests.append(request)
        return pb.ListTasksResponse()

    async def BulkUpdateTasks(  # noqa: N802
        self, request: pb.BulkUpdateTasksRequest, context: Context
    ) -> Any:
        self.requests.append(request)
        page = int(request.page_token or 0)
        return pb.BulkUpdateTasksResponse(
            task_ids=[f"t{page}"], next_page_token=str(page + 1) if page < 2 else ""
        )


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def client(recorder: Recorder) -> AsyncIterator[Client]:
    service = Service(
        "stepwire.api.executor.v1.ExecutorService",
        partial(add_ExecutorServiceServicer_to_server, recorder),
    )
    async with (
        Server("test", ServiceSettings(port=0), [service]) as server,
        Client(server.address) as made,
    ):
        yield made


async def test_a_task_of_a_workflow(client: Client, recorder: Recorder) -> None:
    task = await client.create(
        workflow("invoice", "2"),
        {"n": 1},
        labels={"a": "b"},
        priority=2,
        timeout=timedelta(hours=1),
        start_after=MOMENT,
        validate_only=True,
    )
    assert task.task_id == "answer"
    (request,) = recorder.requests
    assert len(request.request_id) == 36
    assert from_payload(request.input) == {"n": 1}
    request.ClearField("request_id")
    request.ClearField("input")
    assert request == pb.CreateTaskRequest(
        workflow={"name": "invoice", "version": "2"},
        labels={"a": "b"},
        priority=2,
        timeout={"seconds": 3600},
        start_after={"seconds": int(MOMENT.timestamp())},
        validate_only=True,
    )


async def test_a_task_of_a_graph(client: Client, recorder: Recorder) -> None:
    await client.submit(NewTask(GRAPH, request_id="mine"))
    (request,) = recorder.requests
    assert request.WhichOneof("what") == "graph"
    assert (request.graph, request.request_id) == (GRAPH, "mine")
    for unset in ("timeout", "start_after"):
        assert not request.HasField(unset)


async def test_a_time_without_a_zone_is_refused(client: Client, recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        await client.create(GRAPH, start_after=datetime(2026, 11, 21))  # noqa: DTZ001
    assert recorder.requests == []


async def test_verbs_name_the_task_and_carry_a_new_request_id(
    client: Client, recorder: Recorder
) -> None:
    for verb in (client.pause, client.resume, client.pause):
        assert (await verb("t")).task_id == "answer"
    assert [request.task_id for request in recorder.requests] == ["t"] * 3
    assert len({request.request_id for request in recorder.requests}) == 3


async def test_forking(client: Client, recorder: Recorder) -> None:
    await client.fork("t", "a", labels={"a": "b"}, request_id="mine")
    await client.fork("t", "a")
    mine, other = recorder.requests
    assert mine == pb.ForkTaskRequest(
        task_id="t", from_step="a", labels={"a": "b"}, request_id="mine"
    )
    assert len(other.request_id) == 36
    assert not other.labels


async def test_signalling(client: Client, recorder: Recorder) -> None:
    await client.signal("t", "approved", {"by": "Ada"}, request_id="mine")
    await client.signal("t", "approved")
    mine, other = recorder.requests
    assert (mine.task_id, mine.name, mine.request_id) == ("t", "approved", "mine")
    assert from_payload(mine.payload) == {"by": "Ada"}
    assert from_payload(other.payload) is None
    assert len(other.request_id) == 36


async def test_every_condition_reaches_its_field(client: Client, recorder: Recorder) -> None:
    assert [task async for task in client.find(page_size=7, **CONDITIONS)] == []
    assert recorder.requests == [pb.ListTasksRequest(page_size=7, filter=FILTER)]
    assert set(FILTER) == set(pb.TaskFilter.DESCRIPTOR.fields_by_name)


async def test_a_bulk_action_goes_on_page_by_page_as_one(
    client: Client, recorder: Recorder
) -> None:
    pages = client.bulk(
        pb.TASK_ACTION_FORK, from_step="a", validate_only=True, page_size=3, **CONDITIONS
    )
    assert [task_id async for page in pages for task_id in page.task_ids] == ["t0", "t1", "t2"]
    first, *others = recorder.requests
    assert [request.page_token for request in recorder.requests] == ["", "1", "2"]
    assert {request.request_id for request in others} == {first.request_id}
    first.ClearField("request_id")
    assert first == pb.BulkUpdateTasksRequest(
        filter=FILTER, action="TASK_ACTION_FORK", from_step="a", validate_only=True, page_size=3
    )
