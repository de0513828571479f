"""`stepwire queues` and `stepwire workers`, against a running executor."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    held_steps,
    output_of,
    python,
    state_of,
)


@pytest.fixture
def stepwire(mesh):
    """Run a command against the executor; return its result."""

    async def run(*words, code=ExitCode.OK):
        arguments = [*words, "--gateway", mesh.server.address]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    return run


@pytest.fixture
def stepwire_json(stepwire):
    async def run(*words, **options):
        return json.loads(await stepwire(*words, "-o", "json", **options))

    return run


async def test_queues_are_shown_paused_and_resumed(stepwire, stepwire_json):
    assert "default  ACTIVE" in await stepwire("queues", "list")
    listed = await stepwire_json("queues", "list")
    assert [queue["queue"] for queue in listed] == ["default", "gpu", "llm"]
    paused = await stepwire("queues", "pause", "llm", "--note", "maintenance")
    assert "llm    PAUSED" in paused
    assert "maintenance" in paused
    assert (await stepwire_json("queues", "get", "llm"))["state"] == "QUEUE_STATE_PAUSED"
    assert "llm    ACTIVE" in await stepwire("queues", "resume", "llm")
    drained = await stepwire_json("queues", "drain", "gpu", "--no-wait")
    assert drained["state"] == "QUEUE_STATE_PAUSED"
    await stepwire("queues", "get", "nowhere", code=ExitCode.NOT_FOUND)


async def test_a_drain_ends_when_nothing_runs_or_the_time_is_up(mesh, stepwire, tmp_path):
    what, value, path, go = held_steps(tmp_path, 1)
    async with mesh.worker():
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: "held[0] 1" in noted(path), WAIT_SECONDS)
        late = await stepwire(
            "queues", "drain", "default", "--timeout", "0.3", code=ExitCode.FAILED
        )
        assert "DRAINING" in late
        go.touch()
        assert "PAUSED" in await stepwire("queues", "drain", "default")
        await stepwire("queues", "resume", "default")
        assert output_of(await mesh.client.wait(task_id)) == [0]


async def test_workers_are_listed_and_drained_by_name(mesh, stepwire, stepwire_json):
    async with mesh.worker(name="w", slots=7):
        assert "w       ACTIVE  0/7" in await stepwire("workers", "list")
        (drained,) = await stepwire_json("workers", "drain", "w")
        assert drained["draining"] is True
        assert "w       DRAINING" in await stepwire("workers", "list")
    await stepwire("workers", "drain", "nobody", code=ExitCode.NOT_FOUND)


async def test_scaling_signals_are_shown(mesh, stepwire, stepwire_json):
    async with mesh.worker(slots=7):
        found = await stepwire_json("queues", "scaling", "llm", "--min-workers", "2")
        assert found["workers_wanted"] == 2
        assert "together: 0" in await stepwire("queues", "scaling")
    await stepwire("queues", "scaling", "--target", "0.5", code=ExitCode.REFUSED)


async def test_failed_steps_are_listed_and_replayed(mesh, stepwire, stepwire_json, tmp_path):
    value = {"path": str(tmp_path / "notes"), "needs": str(tmp_path / "file"), "result": 7}
    what = graph(python("work", "need_file", input="input", retry=NO_RETRY))
    async with mesh.worker():
        tasks = [(await mesh.client.run(what, value)).task_id for _ in range(3)]
        shown = await stepwire("queues", "failed", "--limit", "2")
        assert "3 STEP_FAILED" in shown
        assert tasks[2] in shown
        assert tasks[0] not in shown
        found = await stepwire_json("queues", "failed", "--reason", "step_failed")
        assert found["reasons"] == {"STEP_FAILED": 3}
        assert [step["task_id"] for step in found["steps"]] == tasks[::-1]
        none = await stepwire_json("queues", "failed", "--before", "2026-01-01")
        assert none["steps"] == []
        (tmp_path / "file").touch()
        assert "1 steps of 1 tasks" in await stepwire("queues", "replay", tasks[1])
        assert output_of(await mesh.client.wait(tasks[1])) == 7
        some = await stepwire_json("queues", "replay", "--queue", "default", "--limit", "1")
        assert (some["tasks"], some["steps"], some["refused"]) == (1, 1, {})
        assert output_of(await mesh.client.wait(tasks[0])) == 7
        assert state_of(await mesh.client.get(tasks[2])) == "FAILED"
        assert (await stepwire_json("queues", "replay", "--queue", "default"))["tasks"] == 1
        assert output_of(await mesh.client.wait(tasks[2])) == 7
        again = await stepwire("queues", "replay", tasks[2], code=ExitCode.CONFLICT)
        assert "was left as it is: TASK_STATE_CONFLICT" in again


@pytest.mark.parametrize("words", [[], ["018f0000-0000-7000-8000-000000000000", "--queue", "q"]])
async def test_a_replay_is_of_tasks_or_of_a_selection(stepwire, words):
    await stepwire("queues", "replay", *words, code=ExitCode.REFUSED)
