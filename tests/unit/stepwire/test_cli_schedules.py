"""`stepwire schedules` without a server: what its files hold, and what it prints."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepwire.api.executor.v1.schedule_service_pb2 import OverlapPolicy, Schedule
from stepwire.cli.app import app
from stepwire.cli.exits import CommandError, ExitCode
from stepwire.cli.schedule_view import print_schedule, print_schedules
from stepwire.cli.schedules import policy_of, read_schedule
from stepwire.sdk.values import from_payload

runner = CliRunner()

WHOLE = """
name: nightly
cron: "30 6 * * MON-FRI"
time_zone: Europe/Berlin
overlap_policy: buffer_one
catch_up_window: 7200s
max_catch_up: 3
start_time: 2030-12-01T00:00:00Z
end_time: "2030-12-24T00:00:00Z"
jitter: 60s
task:
  workflow: report@2
  input: {days: 1}
  labels: {team: a}
  priority: 3
"""


def test_a_schedule_file() -> None:
    given = read_schedule(WHOLE, "f")
    config = given.config
    assert (given.name, config.cron, config.time_zone) == (
        "nightly",
        "30 6 * * MON-FRI",
        "Europe/Berlin",
    )
    assert config.overlap_policy == OverlapPolicy.OVERLAP_POLICY_BUFFER_ONE
    assert (config.catch_up_window.seconds, config.max_catch_up, config.jitter.seconds) == (
        7200,
        3,
        60,
    )
    assert config.start_time.ToJsonString() == "2030-12-01T00:00:00Z"
    assert config.end_time.ToJsonString() == "2030-12-24T00:00:00Z"
    assert (config.task.workflow.name, config.task.workflow.version) == ("report", "2")
    assert from_payload(config.task.input) == {"days": 1}
    assert (dict(config.task.labels), config.task.priority) == ({"team": "a"}, 3)
    assert config.task.request_id == ""


def test_a_task_with_a_graph() -> None:
    text = """
name: n
cron: "@daily"
task: {graph: {steps: [{name: a, transform: {expression: "1"}}]}}
"""
    config = read_schedule(text, "f").config
    assert [step.name for step in config.task.graph.steps] == ["a"]
    assert config.overlap_policy == OverlapPolicy.OVERLAP_POLICY_UNSPECIFIED


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- 1", "f: expected an object"),
        ("cron: '@daily'\ntask: {workflow: w}", "f: the key `name` is missing"),
        ("name: n\ntask: {workflow: w}", "f: the key `cron` is missing"),
        ("name: n\ncron: '@daily'", "f: the key `task` is missing"),
        ("name: n\ncron: '@daily'\ntask: {}", "f: task: expected one of the keys"),
        ("name: n\ncron: '@daily'\ntask: {workflow: w, x: 1}", "f: task: unknown keys x"),
        ("name: n\ncron: '@daily'\nzone: UTC\ntask: {workflow: w}", "f: unknown keys zone"),
        ("name: n\ncron: '@daily'\njitter: soon\ntask: {workflow: w}", "f: "),
        ("name: n\ncron: '@daily'\noverlap_policy: x\ntask: {workflow: w}", "known: SKIP,"),
    ],
)
def test_a_bad_schedule_file_is_refused_with_its_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(CommandError) as caught:
        read_schedule(text, "f")
    assert complaint in caught.value.message
    file = tmp_path / "schedule.yaml"
    file.write_text(text)
    result = runner.invoke(app, ["schedules", "apply", str(file)])
    assert result.exit_code == ExitCode.REFUSED
    assert "error: " in result.stderr


def test_a_policy_that_is_not_known_is_refused() -> None:
    assert policy_of("Cancel_Other") == OverlapPolicy.OVERLAP_POLICY_CANCEL_OTHER
    result = runner.invoke(app, ["schedules", "trigger", "n", "--overlap", "x"])
    assert (result.exit_code, "BUFFER_ONE" in result.stderr) == (ExitCode.REFUSED, True)


def test_times_are_shown_by_the_clock_of_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = Schedule(name="n")
    schedule.config.cron, schedule.config.time_zone = "@daily", "Europe/Berlin"
    schedule.next_times.add().FromJsonString("2030-03-31T01:00:00Z")
    print_schedules([schedule])
    print_schedule(schedule)
    assert capsys.readouterr().out.count("2030-03-31 03:00:00+02:00") == 2
    schedule.config.time_zone = "Mars/Olympus"
    print_schedule(schedule)
    assert "2030-03-31 01:00:00+00:00" in capsys.readouterr().out
