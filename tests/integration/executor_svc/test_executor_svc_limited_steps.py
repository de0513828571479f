"""Limits over real servers: who waits is woken, by others and by the clock."""

import asyncio

from executor_svc import worker
from executor_svc.store import PostgresLimitStore
from executor_svc.work import patience
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    graph,
    output_of,
    python,
    state_of,
    steps_of,
    transform,
    type_of,
)


async def test_a_turn_that_was_missed_is_given(mesh, tmp_path):
    """Whoever freed the place died before it could tell."""
    path, go = tmp_path / "notes", tmp_path / "go"
    limit = {"key": "'k'", "max_running": 1}
    what = graph(python("a", "await_file", limit=limit))
    async with mesh.worker():
        first = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        await mesh.client.until(first, "a", "RUNNING")
        second = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        waiting = await mesh.client.until(second, "a", "WAITING")
        assert waiting.waits_for == "limit:k"
        assert "STEP_WAITING a 1" in await seen(mesh, second)
        await mesh.fetch("DELETE FROM executor.limit_holders WHERE task_id = $1", first)
        await mesh.client.until(second, "a", "RUNNING")
        go.touch()
        for task_id in (first, second):
            assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"


async def test_one_attempt_has_a_place_although_the_answer_was_lost(mesh, tmp_path, monkeypatch):
    """Its step waits in the record, and runs again before whoever asked asks again."""
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(python("a", "await_file", limit={"key": "'k'", "max_running": 1}))
    value = {"path": str(path), "awaits": str(go)}
    to_lose = ["an answer"]

    class Forgetful(PostgresLimitStore):
        async def acquire(self, *arguments):
            answer = await super().acquire(*arguments)
            if not noted(path) or not to_lose:
                return answer
            to_lose.clear()
            await mesh.fetch("DELETE FROM executor.limit_holders WHERE task_id = $1", first)
            await eventually(lambda: len(noted(path)) >= 2, WAIT_SECONDS)
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "Postgres is away")

    monkeypatch.setattr(worker, "PostgresLimitStore", Forgetful)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    async with mesh.worker():
        first = await mesh.client.create(what, value)
        # It has its place; that it is recorded as running says only that it was claimed.
        await eventually(lambda: noted(path), WAIT_SECONDS)
        second = await mesh.client.create(what, value)
        # Another one is given an answer behind that one.
        other = graph(transform("b", "1", limit={"key": "'other'", "max_running": 1}))
        await eventually(lambda: len(noted(path)) >= 2, WAIT_SECONDS)
        assert output_of(await mesh.client.run(other)) == 1
        go.touch()
        for task_id in (first, second):
            assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
    assert noted(path) == ["a 1", "a 1"]


async def seen(mesh, task_id):
    """What has happened to a task so far."""
    rows = await mesh.fetch(
        "SELECT e.value ->> 1 AS step, e.value ->> 2 AS attempt FROM executor.task_events v,"
        " json_array_elements(v.events::json) AS e WHERE v.task_id = $1"
        " AND (e.value ->> 0)::integer = 17",
        task_id,
    )
    return [f"STEP_WAITING {row['step']} {row['attempt']}" for row in rows]


async def test_a_start_under_a_rate_comes_by_the_clock(mesh):
    limit = {"key": "'k'", "max_starts": 1, "period": {"nanos": 200_000_000}}
    what = graph(transform("a", "input", limit=limit))
    async with mesh.worker():
        tasks = await asyncio.gather(*(mesh.client.run(what, number) for number in range(8)))
    assert [output_of(task) for task in tasks] == list(range(8))
    starts = sorted(task.steps[0].start_time.ToMicroseconds() for task in tasks)
    # Not all at once: a start that comes late by up to a second counts for its own time.
    assert starts[-1] - starts[0] >= (7 * 0.2 - 1) * 1e6


async def test_steps_take_turns(mesh):
    limit = {"key": "'k'", "max_running": 2}
    each = transform("each", "item", for_each="input", limit=limit)
    async with mesh.worker(), mesh.worker():
        task = await mesh.client.run(graph(each), list(range(40)))
        history = await mesh.client.history(task.task_id)
    assert output_of(task) == list(range(40))
    assert {step.attempt for step in steps_of(task).values()} == {1}
    assert any(line.startswith("STEP_WAITING each[") for line in history)
    assert await mesh.fetch("SELECT FROM executor.limit_holders") == []
    assert await mesh.fetch("SELECT FROM executor.limit_waiters") == []


async def test_the_attempts_of_a_task_that_was_replaced_are_stopped(mesh, tmp_path):
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(python("a", "await_file"))
    what.concurrency.key = "'k'"
    what.concurrency.policy = graph_pb2.CONCURRENCY_POLICY_CANCEL_IN_PROGRESS
    async with mesh.worker():
        first = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        await mesh.client.until(first, "a", "RUNNING")
        second = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        assert state_of(await mesh.client.wait(first)) == "CANCELLED"
        await eventually(lambda: "cancelled" in noted(path))
        last = (await mesh.client.events(first))[-1]
        assert type_of(last) == "TASK_CANCELLED"
        assert dict(last.detail) == {
            "concurrency_key": "k",
            "policy": "CANCEL_IN_PROGRESS",
            "in_favour_of": second,
        }
        go.touch()
        assert state_of(await mesh.client.wait(second)) == "SUCCEEDED"
