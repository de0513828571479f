"""`stepwire schedules` against an executor."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.schedule_client import ScheduleMesh, running_schedules

SCHEDULE = """
name: nightly
cron: "30 6 * * MON-FRI"
time_zone: Europe/Berlin
overlap_policy: BUFFER_ONE
task: {graph: {steps: [{name: a, transform: {expression: "input.days"}}]}, input: {days: 1}}
"""


@pytest.fixture(scope="module")
async def server(postgres: PostgresServer, rabbitmq_url: str) -> AsyncIterator[ScheduleMesh]:
    with fresh_database(postgres) as url:
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        async with running_schedules(url, rabbitmq_url, namespace) as mesh:
            yield mesh


async def stepwire(server: ScheduleMesh, *words: str, code: ExitCode = ExitCode.OK) -> str:
    """Run a command beside the executor; return what it printed."""
    address = server.mesh.server.address
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["schedules", *words, "--gateway", address]
    )
    assert result.exit_code == code, result.output
    return result.output


async def stepwire_json(server: ScheduleMesh, *words: str) -> Any:
    return json.loads(await stepwire(server, *words, "-o", "json"))


async def test_the_life_of_a_schedule(server: ScheduleMesh, tmp_path: Path) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text(SCHEDULE)
    checked = await stepwire(server, "apply", str(file), "--check")
    assert checked.count("next ") == 5
    assert "06:30:00+0" in checked
    assert await stepwire_json(server, "list") == []
    await stepwire(server, "apply", str(file))
    file.write_text(SCHEDULE.replace("30 6", "45 6"))
    changed = await stepwire_json(server, "apply", str(file))
    assert changed["config"]["cron"] == "45 6 * * MON-FRI"
    assert changed["config"]["task"]["input"] == {"json": {"days": 1}}
    _, line = (await stepwire(server, "list")).splitlines()
    assert line.split()[:6] == ["nightly", "45", "6", "*", "*", "MON-FRI"]
    assert (await stepwire(server, "pause", "nightly", "--note", "for now")).count("next") == 0
    triggered = await stepwire_json(server, "trigger", "nightly")
    assert triggered["outcome"] == "SCHEDULE_RUN_OUTCOME_STARTED"
    assert await stepwire(server, "trigger", "nightly") == "SKIPPED\n"
    other = await stepwire(server, "trigger", "nightly", "--overlap", "allow")
    assert other.startswith("STARTED ")
    shown = await stepwire(server, "get", "nightly")
    assert "PAUSED" in shown
    assert "for now" in shown
    assert triggered["task_id"] in shown
    assert (await stepwire(server, "resume", "nightly")).count("next ") == 5
    async with server.mesh.worker():
        watched = await stepwire(server, "trigger", "nightly", "--overlap", "ALLOW", "--watch")
    assert watched.endswith("succeeded\n1\n")
    assert await stepwire(server, "delete", "nightly") == "nightly deleted\n"
    missing = await stepwire(server, "get", "nightly", code=ExitCode.NOT_FOUND)
    assert "SCHEDULE_NOT_FOUND" in missing


async def test_what_the_server_refuses_is_told(server: ScheduleMesh, tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(SCHEDULE.replace("30 6", "30 25"))
    told = await stepwire(server, "apply", str(file), code=ExitCode.REFUSED)
    assert "config.cron" in told
    assert "0 to 23" in told
