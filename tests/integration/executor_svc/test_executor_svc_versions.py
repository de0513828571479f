"""Deploys while tasks run: old and new workers side by side."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import grpc
import pytest

from executor_svc.engine import declining
from executor_svc.work import step_kinds
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.errors import Reason
from stepwire.rpc.status import code_of
from stepwire.sdk.functions import Registry
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    graph,
    held_steps,
    output_of,
    python,
    refused,
    running_mesh,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.task_verbs import send
from tests.integration.executor_svc.worker_process import worker_process
from tests.integration.executor_svc.workflow_client import workflow_client

# Field 1000 of a graph, which no code knows, with the value 1.
UNKNOWN_FIELD = bytes([0xC0, 0x3E, 0x01])


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """Workers of this process see soon again what they have declined."""
    monkeypatch.setattr(declining, "SHORTEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(declining, "GRAPH_PAUSE", timedelta(seconds=0.2))


@asynccontextmanager
async def old_worker(mesh, **settings):
    """A worker from before the functions of the tests were written."""
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(step_kinds, "default_registry", Registry())
            await stack.enter_async_context(mesh.worker(**settings))
        yield


async def test_a_step_that_an_old_worker_does_not_know_waits_for_a_new_one(mesh, tmp_path):
    path = tmp_path / "notes"
    names = [f"s{number}" for number in range(8)]
    what = graph(*(python(name, "note", input="input") for name in names))
    async with old_worker(mesh, function_wait_seconds=WAIT_SECONDS):
        task_id = await mesh.client.create(what, {"path": str(path)})
        for name in names:
            await _until_waits(mesh, task_id, name, "worker")
        assert noted(path) == []
        async with mesh.worker():
            task = await mesh.client.wait(task_id)
    assert state_of(task) == "SUCCEEDED", task
    assert sorted(noted(path)) == sorted(f"{name} 1" for name in names)
    history = await mesh.client.history(task_id)
    assert {f"STEP_WAITING {name} 1" for name in names} <= set(history)


async def test_a_function_that_no_worker_knows_is_missed_in_the_end(mesh, tmp_path):
    what = graph(python("missing", "note", input="input"))
    path = tmp_path / "notes"
    async with (
        old_worker(mesh, function_wait_seconds=0.5),
        old_worker(mesh, function_wait_seconds=0.5),
    ):
        task = await mesh.client.run(what, {"path": str(path)})
        assert task.failure.reason == "FUNCTION_NOT_FOUND"
        assert task.failure.metadata == {"function": "test.note"}
        # A retry has its own time.
        await mesh.client.retry(task.task_id)
        await mesh.client.wait(task.task_id)
        history = await mesh.client.history(task.task_id)
    assert history[-1] == "TASK_FAILED"
    assert "STEP_WAITING missing 1" in history
    assert "STEP_WAITING missing 2" in history
    await mesh.client.retry(task.task_id)
    async with mesh.worker():
        task = await mesh.client.wait(task.task_id)
    assert state_of(task) == "SUCCEEDED"
    assert noted(path) == ["missing 3"]


async def test_a_graph_that_newer_code_has_accepted_is_left_to_newer_workers(mesh, tmp_path):
    """A worker that went on without what it does not know would run something else."""
    path = tmp_path / "notes"
    what = graph(
        python("first", "note", input="input"),
        transform("last", "'done'", depends_on=["first"]),
    )
    task_id = await mesh.client.create(what, {"path": str(path)})
    await _change_graphs(mesh, UNKNOWN_FIELD)
    async with mesh.worker(function_wait_seconds=0):
        await _until_waits(mesh, task_id, "first", "worker")
        assert noted(path) == []
        # To a worker that knows the field, it is a graph like any other.
        await _change_graphs(mesh, b"")
        task = await mesh.client.wait(task_id)
    assert state_of(task) == "SUCCEEDED", task
    assert output_of(task) == "done"
    assert noted(path) == ["first 1"]


async def test_an_older_executor_says_so_of_a_graph_that_it_does_not_know(mesh):
    task_id = await mesh.client.create(graph(transform("a", "1"), transform("b", "2")))
    async with (
        workflow_client(mesh.server.address, "default") as workflows,
        running_mesh(mesh.database_url, mesh.rabbitmq_url, mesh.namespace) as older,
    ):
        await workflows.register("flow", graph(transform("a", "1")))
        await _change_graphs(mesh, UNKNOWN_FIELD)
        await mesh.fetch(
            "UPDATE executor.tasks SET state = 'FAILED', ended_at = now() WHERE task_id = $1",
            task_id,
        )
        flow = pb.CreateTaskRequest(workflow={"name": "flow"}, input={"data": b"1"})
        for method, request in (
            ("RetryTask", pb.RetryTaskRequest(task_id=task_id)),
            ("ForkTask", pb.ForkTaskRequest(task_id=task_id, from_step="a")),
            ("CreateTask", flow),
        ):
            async with refused() as why:
                await older.client.call(method, request)
            assert why().reason == Reason.GRAPH_TOO_NEW
            assert code_of(why()) is grpc.StatusCode.UNAVAILABLE
            # One that knows the graph answers.
            await mesh.client.call(method, request)


async def test_what_came_for_a_step_outlasts_that_it_is_declined(mesh):
    silent = {"name": "never", "timeout": {"nanos": 1_000_000}, "default": {"number_value": 1}}
    what = graph(
        {"name": "sent", "wait_signal": {"name": "go"}},
        {"name": "silent", "wait_signal": silent},
    )
    task_id = await mesh.client.create(what)
    await _change_graphs(mesh, UNKNOWN_FIELD)
    async with mesh.worker():
        await _until_waits(mesh, task_id, "silent", "worker")
        await _change_graphs(mesh, b"")
        await _until_waits(mesh, task_id, "sent", "signal:go")
        # That it was declined is no signal.
        step = await mesh.client.until(task_id, "silent", "SUCCEEDED")
        assert output_of(step) == 1
    await send(mesh.client, task_id, "go", {"declined_at": 0})
    await _change_graphs(mesh, UNKNOWN_FIELD)
    async with mesh.worker():
        await _until_waits(mesh, task_id, "sent", "worker")
        await _change_graphs(mesh, b"")
        task = await mesh.client.wait(task_id)
    assert output_of(task) == {"sent": {"declined_at": 0}, "silent": 1}


async def test_a_deploy_fails_no_task(mesh, tmp_path):
    """The old process finishes what it runs; what follows, and what is new, is the new one's."""
    what, value, path, go = held_steps(tmp_path, 10)
    with worker_process(mesh, tmp_path / "old", drain_seconds=30) as old:
        before = [await mesh.client.create(what, value) for _ in range(4)]
        await eventually(lambda: len(noted(path)) == 4 * 11, WAIT_SECONDS)
        with worker_process(mesh, tmp_path / "new"):
            old.signal(signal.SIGTERM)
            await eventually(lambda: "is stopping" in old.log.read_text(), WAIT_SECONDS)
            after = [await mesh.client.create(what, value) for _ in range(4)]
            await eventually(lambda: len(noted(path)) == 8 * 11, WAIT_SECONDS)
            go.touch()
            assert old.wait() == 0, old.log.read_text()
            tasks = await asyncio.gather(*map(mesh.client.wait, before + after))
    for task in tasks:
        assert state_of(task) == "SUCCEEDED", task
        assert output_of(task) == list(range(10))
        assert {step.attempt for step in steps_of(task).values()} == {1}
    assert len(noted(path)) == 8 * 11


async def _until_waits(mesh, task_id, step_id, for_what):
    async def waits():
        return (await mesh.client.step(task_id, step_id)).waits_for == for_what

    assert await eventually(waits, WAIT_SECONDS)


async def _change_graphs(mesh, suffix):
    """Give the graphs of the record another end than that with which they were accepted."""
    async with mesh.connection() as connection:
        await connection.execute(
            "UPDATE executor.graphs SET spec = CASE WHEN $1 = ''::bytea"
            " THEN substr(spec, 1, length(spec) - $2) ELSE spec || $1 END",
            suffix,
            len(UNKNOWN_FIELD),
        )
