"""The Python client and the command line against a real executor and worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.task_pb2 import Task, TaskState
from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from stepwire.errors import Reason, StepwireError
from stepwire.sdk import Client, from_payload
from stepwire.sdk.graph import graph, python, sleep, subtask, transform, wait_signal, workflow
from stepwire.sdk.policies import ALL_DONE, at_least, undo_python
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import WAIT_SECONDS, Mesh, state_of

LONG = timedelta(hours=1)
WORKFLOW = """
name: {name}
description: Adds one.
labels: {{from: yaml}}
priority: 3
graph: {{steps: [{{name: add, transform: {{expression: "input + 1"}}}}]}}
"""


@pytest.fixture
async def sdk(shared_mesh: Mesh) -> AsyncIterator[Client]:
    async with Client(shared_mesh.server.address) as client:
        yield client


@dataclass
class CommandLine:
    """Runs `stepwire` in this process, against the executor."""

    address: str

    async def __call__(self, *words: str, stdin: str = "") -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, app, [*words, "--gateway", self.address], input=stdin
        )

    async def json(self, *words: str, stdin: str = "") -> Any:
        result = await self(*words, "-o", "json", stdin=stdin)
        assert result.exit_code == ExitCode.OK, result.output
        return json.loads(result.stdout)


@pytest.fixture
def stepwire(shared_mesh: Mesh) -> CommandLine:
    return CommandLine(shared_mesh.server.address)


async def until(client: Client, task_id: str, step_id: str, state: str) -> None:
    async def reached() -> bool:
        task = await client.get(task_id, steps=True)
        return any(step.step_id == step_id and state_of(step) == state for step in task.steps)

    assert await eventually(reached, WAIT_SECONDS)


async def ended(client: Client, task_id: str) -> Task:
    return await client.wait(task_id, timeout=timedelta(seconds=WAIT_SECONDS))


async def test_joins_conditions_waits_and_subtasks(sdk: Client) -> None:
    built = graph(
        fails := python("fails", function="test.fail", retry={"max_attempts": 1}),
        skipped := transform("skipped", expression="1", when="false"),
        pause := sleep("pause", duration=timedelta(milliseconds=1)),
        inner := subtask("inner", runs=graph(transform("twice", expression="input * 2"))),
        enough := transform(
            "enough", expression="'enough'", depends_on=[fails, pause, inner], join=at_least(2)
        ),
        transform(
            "all",
            expression="[states.fails, states.skipped, steps.inner]",
            depends_on=[fails, skipped, pause, inner, enough],
            join=ALL_DONE,
        ),
    )
    task = await ended(sdk, (await sdk.create(built, 21)).task_id)
    assert state_of(task) == "SUCCEEDED", task
    assert from_payload(task.output) == ["FAILED", "SKIPPED", 42]


async def test_a_signal_and_its_default(sdk: Client) -> None:
    built = graph(
        wait_signal("asked", wait=LONG),
        wait_signal("late", wait=timedelta(milliseconds=1), default={"ok": False}),
    )
    task = await sdk.create(built)
    await until(sdk, task.task_id, "asked", "WAITING")
    await sdk.signal(task.task_id, "asked", {"ok": True})
    task = await ended(sdk, task.task_id)
    assert from_payload(task.output) == {"asked": {"ok": True}, "late": {"ok": False}}


async def test_a_failed_task_is_compensated(sdk: Client, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    done = transform(
        "done",
        expression="{'path': input.path}",
        compensation=undo_python("test.note"),
    )
    fails = python("fails", function="test.fail", depends_on=[done], retry={"max_attempts": 1})
    task = await ended(sdk, (await sdk.create(graph(done, fails), {"path": str(notes)})).task_id)
    assert state_of(task) == "FAILED"
    assert [line for line in noted(notes) if "done" in line] == ["~undo/done 1"]


async def test_pause_resume_fork_and_bulk(sdk: Client) -> None:
    first = transform("first", expression="input")
    held = wait_signal("held", depends_on=[first], wait=LONG)
    built = graph(held, first, transform("last", expression="value", depends_on=[held]))
    label = {"test": "bulk"}
    task = await sdk.create(built, 1, labels=label)
    await until(sdk, task.task_id, "held", "WAITING")
    assert (await sdk.pause(task.task_id)).state == TaskState.TASK_STATE_PAUSED
    assert (await sdk.resume(task.task_id)).state != TaskState.TASK_STATE_PAUSED
    fork = await sdk.fork(task.task_id, "held")
    assert (fork.forked_from, dict(fork.labels)) == (task.task_id, label)

    both = {task.task_id, fork.task_id}
    dry = sdk.bulk(pb.TASK_ACTION_CANCEL, labels=label, validate_only=True, page_size=1)
    assert {task_id async for page in dry for task_id in page.task_ids} == both
    assert "CANCELLED" not in {state_of(found) async for found in sdk.find(labels=label)}
    cancelled = sdk.bulk(pb.TASK_ACTION_CANCEL, labels=label, page_size=1)
    assert {task_id async for page in cancelled for task_id in page.task_ids} == both
    states = {state_of(found) async for found in sdk.find(labels=label)}
    assert states == {"CANCELLED"}


async def test_workflows_from_a_program(sdk: Client) -> None:
    add = graph(transform("add", expression="input + 1"))
    one = await sdk.workflows.register("sdk.add", add, description="d", labels={"a": "b"})
    assert one.version == "1"
    assert (await sdk.workflows.get("sdk.add")).graph == add
    two = await sdk.workflows.register(
        "sdk.add", graph(transform("add", expression="input + 2")), version="2026-11-21"
    )
    assert [each.version async for each in sdk.workflows.versions("sdk.add")] == [
        *(two.version, "1")
    ]
    assert "sdk.add" in [each.name async for each in sdk.workflows.find()]
    task = await ended(sdk, (await sdk.create(workflow("sdk.add"), 1)).task_id)
    assert from_payload(task.output) == 3
    assert (task.workflow.name, task.workflow.version) == ("sdk.add", "2026-11-21")
    await sdk.workflows.deprecate("sdk.add", two.version)
    checked = await sdk.create(workflow("sdk.add"), 1, validate_only=True)
    assert (checked.task_id, checked.workflow.version) == ("", "1")
    assert dict(checked.labels) == {"a": "b"}
    await sdk.workflows.activate("sdk.add", two.version)
    await sdk.workflows.delete("sdk.add", "1")
    with pytest.raises(StepwireError) as caught:
        await sdk.workflows.delete("sdk.add", two.version)
    assert caught.value.reason is Reason.WORKFLOW_VERSION_IN_USE
    found = await sdk.workflows.validate(graph(transform("a", expression="1 +")))
    assert [problem.field for problem in found.problems] == ["graph.steps[0].transform.expression"]


async def test_workflows_from_the_command_line(stepwire: CommandLine) -> None:
    file = WORKFLOW.format(name="cli.add")
    shown = await stepwire.json("workflows", "register", "-", "--check", stdin=file)
    assert (shown["name"], shown["version"], shown["description"]) == ("cli.add", "1", "Adds one.")
    assert (await stepwire("workflows", "get", "cli.add")).exit_code == ExitCode.NOT_FOUND
    for version in ("1", "1"):
        shown = await stepwire.json("workflows", "register", "-", stdin=file)
        assert shown["version"] == version
    other = file.replace("+ 1", "+ 2")
    assert (await stepwire.json("workflows", "register", "-", "--version", "x", stdin=other))[
        "version"
    ] == "x"
    assert [
        each["version"] for each in await stepwire.json("workflows", "versions", "cli.add")
    ] == ["x", "1"]
    listed = await stepwire.json("workflows", "list")
    assert [each["version"] for each in listed if each["name"] == "cli.add"] == ["x"]
    told = await stepwire("workflows", "get", "cli.add@1")
    assert told.stdout.splitlines() == ["cli.add@1 ACTIVE", "Adds one.", "  add (transform)"]

    run = await stepwire("workflows", "run", "cli.add", "--input", "40", "-w")
    assert (run.exit_code, run.stdout.splitlines()[-1]) == (ExitCode.OK, "42")
    task = await stepwire.json("workflows", "run", "cli.add@1", "--input", "1", "--label", "n=1")
    assert task["workflow"] == {"name": "cli.add", "version": "1"}
    assert (task["labels"], task["priority"]) == ({"from": "yaml", "n": "1"}, 3)
    refused = await stepwire("workflows", "register", "-", "--version", "1", stdin=other)
    assert (refused.exit_code, "WORKFLOW_VERSION_EXISTS" in refused.stderr) == (5, True)

    found = await stepwire.json("tasks", "list", "--workflow", "cli.add@1")
    assert [each["task_id"] for each in found] == [task["task_id"]]
    await stepwire.json("workflows", "deprecate", "cli.add", "1")
    refused = await stepwire("workflows", "run", "cli.add@1")
    assert (refused.exit_code, "WORKFLOW_VERSION_DEPRECATED" in refused.stderr) == (5, True)
    shown = await stepwire.json("workflows", "activate", "cli.add", "1")
    assert shown["state"] == "WORKFLOW_VERSION_STATE_ACTIVE"
    refused = await stepwire("workflows", "delete", "cli.add", "1")
    assert (refused.exit_code, "WORKFLOW_VERSION_IN_USE" in refused.stderr) == (5, True)


async def test_checking_from_the_command_line(stepwire: CommandLine) -> None:
    file = WORKFLOW.format(name="cli.check")
    told = await stepwire("workflows", "validate", "-", stdin=file)
    assert (told.exit_code, told.stdout) == (ExitCode.OK, "1 steps; longest chain: add\n")
    bad = file.replace("input + 1", "nothing + 1")
    told = await stepwire("workflows", "validate", "-", stdin=bad)
    assert told.exit_code == ExitCode.REFUSED
    assert told.stdout.startswith("graph.steps[0].transform.expression: ")
    assert told.stdout.endswith("[EXPRESSION_INVALID]\n")
    task = "graph: {steps: [{name: a, transform: {expression: '1'}}]}"
    told = await stepwire("submit", "-", "--check", stdin=task)
    assert (told.exit_code, told.stdout) == (ExitCode.OK, "The task would be accepted.\n")


async def test_task_verbs_from_the_command_line(sdk: Client, stepwire: CommandLine) -> None:
    first = transform("first", expression="input")
    held = wait_signal("held", depends_on=[first], wait=LONG)
    task_id = (await sdk.create(graph(first, held), 1, labels={"test": "cli"})).task_id
    await until(sdk, task_id, "held", "WAITING")
    told = await stepwire("tasks", "get", task_id)
    assert "waits for signal:held until " in told.stdout
    assert (await stepwire.json("tasks", "pause", task_id))["state"] == "TASK_STATE_PAUSED"
    assert (await stepwire("tasks", "resume", task_id)).stdout.split()[0] == task_id
    fork = await stepwire.json("tasks", "fork", task_id, "--from", "held", "--label", "test=fork")
    assert fork["forked_from"] == task_id
    await stepwire.json("tasks", "signal", task_id, "held", "--value", "{ok: true}")
    assert from_payload((await ended(sdk, task_id)).output) == {"ok": True}
    wrong = await stepwire("tasks", "signal", fork["task_id"], "other")
    assert (wrong.exit_code, "SIGNAL_UNKNOWN" in wrong.stderr) == (ExitCode.CONFLICT, True)

    dry = await stepwire.json("tasks", "bulk", "cancel", "--label", "test=fork", "--dry-run")
    assert dry == {"task_ids": [fork["task_id"]], "refused": {}}
    assert state_of(await sdk.get(fork["task_id"])) != "CANCELLED"
    told = await stepwire("tasks", "bulk", "cancel", "--label", "test=fork")
    assert told.stdout.split() == [fork["task_id"]]
    assert state_of(await sdk.get(fork["task_id"])) == "CANCELLED"
    nothing = await stepwire("tasks", "bulk", "cancel")
    assert (nothing.exit_code, "filter" in nothing.stderr) == (ExitCode.REFUSED, True)
