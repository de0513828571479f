"""Bad requests: refused with a reason and the field, and nothing is written."""

import json
import time
import uuid

import grpc
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_mesh import (
    chain,
    create_request,
    graph,
    output_of,
    refused,
    state_of,
    transform,
)

MEBIBYTE = 1024 * 1024
DAY = 86_400


def with_input(**fields):
    request = create_request(chain(1))
    request.input.Clear()
    for name, value in fields.items():
        setattr(request.input, name, value)
    return request


def nested(levels):
    request = create_request(chain(1))
    request.input.data = b"[" * levels + b"]" * levels
    return request


def not_a_number():
    request = create_request(chain(1))
    request.input.json.number_value = float("nan")
    return request


def keyed(key):
    what = chain(1)
    what.concurrency.key = key
    return what


BAD_TASKS = [
    (create_request(graph()), Reason.FIELD_INVALID, "graph.steps"),
    (
        create_request(
            graph(transform("a", "1", depends_on=["b"]), transform("b", "1", depends_on=["a"]))
        ),
        Reason.GRAPH_CYCLE,
        "graph.steps",
    ),
    (
        create_request(graph(transform("a", "1", depends_on=["b"]))),
        Reason.DEPENDENCY_MISSING,
        "graph.steps[0].depends_on",
    ),
    (
        create_request(graph(transform("a", "1 +"))),
        Reason.EXPRESSION_INVALID,
        "graph.steps[0].transform.expression",
    ),
    (
        create_request(graph(transform("a", "1"), transform("b", "steps.a"))),
        Reason.EXPRESSION_INVALID,
        "graph.steps[1].transform.expression",
    ),
    (create_request(graph({"name": "a"})), Reason.STEP_KIND_UNKNOWN, "graph.steps[0]"),
    (create_request(graph(transform("A", "1"))), Reason.FIELD_INVALID, "graph.steps[0].name"),
    (
        create_request(graph(transform("a", "1", queue="no-such-queue"))),
        Reason.FIELD_INVALID,
        "graph.steps[0].queue",
    ),
    (
        create_request(graph(transform("a", "1", timeout={"seconds": 2**62}))),
        Reason.FIELD_INVALID,
        "graph.steps[0].timeout",
    ),
    (
        create_request(graph(transform("a", "1", retry={"max_attempts": -1}))),
        Reason.FIELD_INVALID,
        "graph.steps[0].retry.max_attempts",
    ),
    (with_input(data=b'"' + b"x" * MEBIBYTE + b'"'), Reason.PAYLOAD_TOO_LARGE, "input"),
    (with_input(data=b'{"a": '), Reason.FIELD_INVALID, "input.data"),
    (with_input(data=b"NaN"), Reason.FIELD_INVALID, "input.data"),
    (with_input(data=b"x", content_type="text/plain"), Reason.FIELD_INVALID, "input.content_type"),
    (nested(33), Reason.FIELD_INVALID, "input.data"),
    (not_a_number(), Reason.FIELD_INVALID, "input.json"),
    (create_request(chain(1), request_id="r" * 129), Reason.FIELD_INVALID, "request_id"),
    (create_request(chain(1), request_id="\0"), Reason.FIELD_INVALID, "request_id"),
    (
        create_request(chain(1), labels={str(number): "" for number in range(17)}),
        Reason.FIELD_INVALID,
        "labels",
    ),
    (create_request(chain(1), labels={"a": "x" * 129}), Reason.FIELD_INVALID, "labels['a']"),
    (create_request(chain(1), labels={"a": "\0"}), Reason.FIELD_INVALID, "labels"),
    (
        create_request(chain(1), labels={"stepwire.task": "x"}),
        Reason.FIELD_INVALID,
        "labels['stepwire.task']",
    ),
    (
        create_request(graph({"name": "a", "webhook": {"subscription_id": "x"}})),
        Reason.FIELD_INVALID,
        "graph.steps[0].webhook",
    ),
    (create_request(chain(1), priority=10), Reason.FIELD_INVALID, "priority"),
    (create_request(chain(1), priority=-1), Reason.FIELD_INVALID, "priority"),
    (create_request(chain(1), timeout={"seconds": -1}), Reason.FIELD_INVALID, "timeout"),
    (create_request(chain(1), timeout={"seconds": 401 * DAY}), Reason.FIELD_INVALID, "timeout"),
    (create_request(chain(1), start_after={"nanos": -1}), Reason.FIELD_INVALID, "start_after"),
    (
        create_request(chain(1), start_after={"seconds": int(time.time()) + 401 * DAY}),
        Reason.FIELD_INVALID,
        "start_after",
    ),
    (
        create_request(keyed("input.key"), {"no": "key"}),
        Reason.FIELD_INVALID,
        "input",
    ),
]


def name_of(case):
    return f"{case[1]}-{case[2]}"


async def rows(mesh):
    (row,) = await mesh.fetch(
        "SELECT (SELECT count(*) FROM executor.tasks) AS tasks,"
        " (SELECT count(*) FROM executor.steps) AS steps,"
        " (SELECT count(*) FROM executor.graphs) AS graphs,"
        " (SELECT count(*) FROM executor.task_events) AS events"
    )
    return tuple(row)


@pytest.mark.parametrize("case", BAD_TASKS, ids=name_of)
async def test_a_bad_task_is_refused_and_the_field_is_named(client, case):
    request, reason, field = case
    async with refused() as why:
        await client.call("CreateTask", request)
    assert why().reason == reason
    named = [fault.field for fault in why().faults] or [why().metadata.get("field")]
    assert named == [field]
    assert field in str(why())


async def test_nothing_of_a_refused_task_remains(mesh):
    for request, _, _ in BAD_TASKS:
        async with refused():
            await mesh.client.call("CreateTask", request)
        async with refused():
            await mesh.client.call(
                "BatchCreateTasks",
                pb.BatchCreateTasksRequest(requests=[create_request(chain(1)), request]),
            )
    assert await rows(mesh) == (0, 0, 0, 0)


async def test_a_batch_names_the_entry_at_fault(client):
    requests = [create_request(chain(1)), create_request(graph(transform("a", "1 +")))]
    async with refused() as why:
        await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert why().reason == Reason.EXPRESSION_INVALID
    (fault,) = why().faults
    assert fault.field == "requests[1].graph.steps[0].transform.expression"


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_a_size(client, count):
    requests = [create_request(chain(1))] * count
    async with refused() as why:
        await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert [fault.field for fault in why().faults] == ["requests"]


async def test_a_batch_names_a_request_id_once(client):
    requests = [create_request(chain(1), request_id="x")] * 2
    async with refused() as why:
        await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert [fault.field for fault in why().faults] == ["requests[1].request_id"]


async def test_a_batch_is_not_only_checked(client):
    requests = [create_request(chain(1)), create_request(chain(1), validate_only=True)]
    async with refused() as why:
        await client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert [fault.field for fault in why().faults] == ["requests[1].validate_only"]


async def test_a_batch_is_accepted_whole_or_not_at_all(mesh):
    await mesh.client.create(chain(1), 1, request_id="taken")
    before = await rows(mesh)
    requests = [
        create_request(chain(1), 1),
        create_request(chain(1), 2, request_id="taken"),
        create_request(chain(1), 3),
    ]
    async with refused() as why:
        await mesh.client.call("BatchCreateTasks", pb.BatchCreateTasksRequest(requests=requests))
    assert why().reason == Reason.REQUEST_ID_REUSED
    assert await rows(mesh) == before


@pytest.mark.parametrize(
    "request_",
    [
        create_request(chain(1), 2, request_id="same"),
        create_request(chain(2), 1, request_id="same"),
        create_request(chain(1), 1, request_id="same", labels={"a": "b"}),
        create_request(chain(1), 1, request_id="same", priority=1),
        create_request(chain(1), 1, request_id="same", timeout={"seconds": 1}),
        create_request(chain(1), 1, request_id="same", start_after={"seconds": 1}),
    ],
    ids=["input", "graph", "labels", "priority", "timeout", "start"],
)
async def test_a_request_id_belongs_to_one_request(client, request_):
    task_id = await client.create(chain(1), 1, request_id="same")
    async with refused() as why:
        await client.call("CreateTask", request_)
    assert why().reason == Reason.REQUEST_ID_REUSED
    assert why().metadata == {"request_id": "same", "task_id": task_id}


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetTask", pb.GetTaskRequest(task_id="not a task")),
        ("GetTask", pb.GetTaskRequest()),
        ("WaitTask", pb.WaitTaskRequest(task_id="x")),
        ("CancelTask", pb.CancelTaskRequest(task_id="x")),
        ("RetryTask", pb.RetryTaskRequest(task_id="x")),
        ("PauseTask", pb.PauseTaskRequest(task_id="x")),
        ("ResumeTask", pb.ResumeTaskRequest(task_id="x")),
        ("SignalTask", pb.SignalTaskRequest(task_id="x")),
        ("ForkTask", pb.ForkTaskRequest(task_id="x")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_task_id(client, method, request_):
    async with refused() as why:
        await client.call(method, request_)
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == ["task_id"]


ID = str(uuid.uuid4())


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListTasks", pb.ListTasksRequest(page_size=-1), "page_size"),
        ("ListTasks", pb.ListTasksRequest(filter={"state": 99}), "filter.state"),
        ("ListTasks", pb.ListTasksRequest(filter={"labels": {"a": "\0"}}), "filter.labels"),
        ("WaitTask", pb.WaitTaskRequest(task_id=ID, timeout={"seconds": -1}), "timeout"),
        ("WaitTask", pb.WaitTaskRequest(task_id=ID, timeout={"seconds": 2**62}), "timeout"),
        ("CancelTask", pb.CancelTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("RetryTask", pb.RetryTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("PauseTask", pb.PauseTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("ResumeTask", pb.ResumeTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("SignalTask", pb.SignalTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("ForkTask", pb.ForkTaskRequest(task_id=ID, request_id="r" * 129), "request_id"),
        ("ForkTask", pb.ForkTaskRequest(task_id=ID, labels={"": "a"}), "labels['']"),
    ],
)
async def test_a_bad_field(client, method, request_, field):
    async with refused() as why:
        await client.call(method, request_)
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == [field]


async def test_a_watch_has_no_negative_cursor(client):
    async with refused() as why:
        await client.events(ID, after=-1)
    assert [fault.field for fault in why().faults] == ["after_cursor"]


@pytest.mark.parametrize("token", ["garbage", "!!!!", "é", "A" * 500])
async def test_a_page_token_of_another_making(client, token):
    async with refused() as why:
        await client.call("ListTasks", pb.ListTasksRequest(page_token=token))
    assert why().reason == Reason.PAGE_TOKEN_INVALID


async def test_a_call_whose_time_is_over_is_ended(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("CreateTask", create_request(chain(1)), timeout=0)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_too_many_steps(client):
    steps = [transform(f"s{number}", "1") for number in range(1001)]
    async with refused() as why:
        await client.call("CreateTask", create_request(graph(*steps)))
    assert [fault.field for fault in why().faults] == ["graph.steps"]


async def test_the_service_goes_on_after_bad_requests(client):
    for request, _, _ in BAD_TASKS:
        async with refused():
            await client.call("CreateTask", request)
    assert output_of(await client.run(chain(1), 1)) == 2


async def test_the_largest_input_and_the_deepest_come_back(client):
    deep = json.loads("[" * 32 + "]" * 32)
    task = await client.run(graph(transform("a", "input")), deep)
    assert state_of(task) == "SUCCEEDED"
    assert output_of(task) == deep
    large = "x" * (MEBIBYTE - 2)
    assert output_of(await client.run(graph(transform("a", "size(input)")), large)) == len(large)


async def test_the_largest_graph_runs(client):
    steps = [transform(f"s{number}", "1") for number in range(1000)]
    begun = time.monotonic()
    task = await client.run(graph_pb2.Graph(steps=[graph_pb2.Step(**step) for step in steps]))
    assert state_of(task) == "SUCCEEDED"
    assert len(output_of(task)) == 1000, time.monotonic() - begun
