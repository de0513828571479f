"""Commands without a server: what they refuse, and how they say it."""

import asyncio
import io
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from stepwire.api.executor.v1.task_pb2 import Failure, StepRun, Task, TaskEvent, TaskEventType
from stepwire.cli.app import app
from stepwire.cli.exits import CommandError, ExitCode, exit_code, run
from stepwire.cli.output import duration, shortened, task_to_json
from stepwire.cli.submit import read_task
from stepwire.cli.tasks import task_rows
from stepwire.cli.watch import describe_event
from stepwire.cli.workflows import read_workflow
from stepwire.errors import FieldFault, Reason, StepwireError
from stepwire.rpc.status import CODES
from stepwire.sdk.graph import workflow
from stepwire.sdk.requests import NewTask
from stepwire.sdk.values import to_payload

runner = CliRunner()

GRAPH = "graph: {steps: [{name: a, transform: {expression: '1'}}]}"


@pytest.fixture
def nowhere() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_task_file_is_yaml_or_json() -> None:
    task = read_task(f"{GRAPH}\ninput: {{a: 1}}\nlabels: {{n: 3}}\nrequest_id: r", "f")
    assert [step.name for step in task.graph.steps] == ["a"]
    assert (task.input, task.labels, task.request_id) == ({"a": 1}, {"n": "3"}, "r")
    same = '{"graph": {"steps": [{"name": "a", "transform": {"expression": "1"}}]}}'
    assert read_task(same, "f").graph == task.graph


def test_a_task_file_may_name_a_workflow() -> None:
    task = read_task(
        "workflow: invoice.approve@2\npriority: 2\ntimeout: 90s\n"
        "start_after: 2026-11-21T10:00:00+01:00",
        "f",
    )
    assert task == NewTask(
        workflow("invoice.approve", "2"),
        priority=2,
        timeout=timedelta(seconds=90),
        start_after=datetime(2026, 11, 21, 9, tzinfo=UTC),
    )
    assert read_task("workflow: invoice.approve", "f").what == workflow("invoice.approve")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "f is neither YAML nor JSON"),
        ("- 1", "f: expected an object with some of the keys ['graph'"),
        ("{}", "f: expected one of the keys `graph` and `workflow`"),
        (f"{GRAPH}\nworkflow: a", "f: expected one of the keys `graph` and `workflow`"),
        ("graph: 5", "f: expected an object with the key `graph`"),
        (f"{GRAPH}\ninputs: 1", "f: unknown keys inputs"),
        (
            "graph: {steps: [{depend_on: [a]}]}",
            "f: graph.steps[0]: there is no field named depend_on; is depends_on meant?",
        ),
        (
            "graph: {steps: [{q: a}]}",
            "f: graph.steps[0]: there is no field named q; known: compensation, depends_on, embed,",
        ),
        (f"{GRAPH}\ntimeout: 5", "f: Failed to parse timeout field"),
        (
            f"{GRAPH}\nstart_after: 2026-11-21T10:00:00",
            "f: start_after: 2026-11-21T10:00:00 has no",
        ),
        (f"{GRAPH}\nlabels: [1]", "f: labels: expected an object"),
    ],
)
def test_a_bad_task_file_is_refused_with_its_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(Exception) as caught:
        read_task(text, "f")
    assert complaint in str(caught.value)
    file = tmp_path / "task.yaml"
    file.write_text(text)
    result = runner.invoke(app, ["submit", str(file)])
    assert result.exit_code == ExitCode.REFUSED
    assert "error: " in result.stderr


def test_a_workflow_file_is_yaml_or_json() -> None:
    request = read_workflow(
        f"name: w\nversion: 2026-11-21\ndescription: d\nlabels: {{n: 3}}\npriority: 2\n{GRAPH}", "f"
    )
    assert (request.name, request.version, request.description) == ("w", "2026-11-21", "d")
    assert (dict(request.defaults.labels), request.defaults.priority) == ({"n": "3"}, 2)
    assert [step.name for step in request.graph.steps] == ["a"]
    assert read_workflow(f"name: w\nversion: 2\n{GRAPH}", "f").version == "2"
    assert read_workflow(f"name: w\n{GRAPH}", "f").version == ""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GRAPH, "f: the key `name` is missing"),
        ("name: w", "f: expected an object with the key `graph`"),
        (f"name: w\n{GRAPH}\ninput: 1", "f: unknown keys input"),
        (f"name: w\n{GRAPH}\nlabels: 1", "f: labels: expected an object"),
        (f"name: w\n{GRAPH}\npriority: x", "f: Failed to parse priority"),
    ],
)
def test_a_bad_workflow_file_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_workflow(text, "f")
    assert complaint in caught.value.message


def test_a_missing_file_is_refused() -> None:
    result = runner.invoke(app, ["submit", "no/such/file"])
    assert (result.exit_code, "cannot be read" in result.stderr) == (ExitCode.REFUSED, True)


@pytest.mark.parametrize(
    "words",
    [
        ["models"],
        ["models", "--hosted"],
        ["search", "c", "text"],
        ["ask", "why?"],
        ["tasks", "list"],
        ["tasks", "get", "t"],
        ["tasks", "cancel", "t"],
        ["tasks", "retry", "t"],
        ["tasks", "pause", "t"],
        ["tasks", "resume", "t"],
        ["tasks", "fork", "t", "--from", "a"],
        ["tasks", "signal", "t", "n", "--value", "{a: 1}"],
        ["tasks", "bulk", "cancel", "--state", "failed"],
        ["workflows", "list"],
        ["workflows", "versions", "w"],
        ["workflows", "get", "w@1"],
        ["workflows", "deprecate", "w", "1"],
        ["workflows", "activate", "w", "1"],
        ["workflows", "delete", "w", "1"],
        ["workflows", "run", "w"],
        ["queues", "list"],
        ["queues", "get", "q"],
        ["queues", "pause", "q"],
        ["queues", "resume", "q"],
        ["queues", "drain", "q"],
        ["queues", "scaling", "q"],
        ["queues", "failed"],
        ["queues", "replay", "t"],
        ["queues", "replay", "--queue", "q"],
        ["workers", "list"],
        ["workers", "drain", "w"],
        ["trace", "t"],
    ],
    ids=" ".join,
)
def test_a_gateway_that_does_not_answer_is_told(words: list[str], nowhere: str) -> None:
    result = runner.invoke(app, [*words, "--gateway", nowhere, "-o", "json"])
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert f"nothing answers at {nowhere} [DEPENDENCY_UNAVAILABLE]" in result.stderr
    assert "`stepwire up` starts it" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["tasks", "list", "--state", "sleepy"],
        ["tasks", "list", "--label", "no-equals-sign"],
        ["tasks", "list", "--from", "yesterday"],
        ["tasks", "fork", "t"],
        ["tasks", "fork", "t", "--from", "a", "--label", "no-equals-sign"],
        ["tasks", "signal", "t", "n", "--value", "["],
        ["tasks", "bulk", "delete", "--state", "failed"],
        ["workflows", "register", "no/such/file"],
        ["workflows", "validate", "no/such/file"],
        ["workflows", "run", "w", "--input", "["],
        ["workflows", "run", "w", "--priority", "10"],
        ["ingest", "no/such/folder"],
        ["ingest", ".", "--label", "a/b"],
        ["ask", "  "],
        ["search", "c", "text", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_a_bad_command_line_is_refused(words: list[str]) -> None:
    assert runner.invoke(app, words).exit_code == ExitCode.REFUSED


def test_the_crash_needs_a_worker_and_leaves_an_unreadable_state_alone(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    result = runner.invoke(app, ["demo", "--home", str(tmp_path)])
    assert (result.exit_code, "stack.json" in result.stderr) == (ExitCode.CONFLICT, True)
    assert (tmp_path / "stack.json").read_text() == "{"


def test_an_error_is_told_with_its_reason_fields_and_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail() -> None:
        raise StepwireError(
            Reason.FIELD_INVALID,
            "the request is bad",
            metadata={"limit": "7"},
            faults=[FieldFault("graph.steps[0].name", "must not be empty")],
        )

    with pytest.raises(Exception) as caught:
        run(fail())
    assert caught.value.exit_code == ExitCode.REFUSED  # type: ignore[attr-defined]
    assert capsys.readouterr().err.splitlines() == [
        "error: the request is bad [FIELD_INVALID]",
        "  graph.steps[0].name: must not be empty",
        "  limit: 7",
    ]


def test_an_error_among_many_calls_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise StepwireError(Reason.TASK_NOT_FOUND, "there is no task")

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(fail())

    with pytest.raises(Exception) as caught:
        run(many())
    assert caught.value.exit_code == ExitCode.NOT_FOUND  # type: ignore[attr-defined]
    assert capsys.readouterr().err == "error: there is no task [TASK_NOT_FOUND]\n"


def test_every_reason_has_an_exit_code_other_than_success() -> None:
    codes = {reason: exit_code(StepwireError(reason, "")) for reason in CODES}
    assert ExitCode.OK not in codes.values()
    assert codes[Reason.OVERLOADED] == codes[Reason.PROVIDER_UNAVAILABLE] == ExitCode.UNAVAILABLE
    assert codes[Reason.INTERNAL] == ExitCode.INTERNAL


def test_a_bug_is_not_hidden() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail())


def test_a_task_is_printed_with_its_values_in_their_natural_form() -> None:
    task = Task(
        task_id="t",
        input=to_payload({"a": 1}),
        output=to_payload([1, 2]),
        steps=[StepRun(step_id="s", output=to_payload("x")), StepRun(step_id="u")],
    )
    data = json.loads(json.dumps(task_to_json(task)))
    assert (data["input"], data["output"], data["steps"][0]["output"]) == ({"a": 1}, [1, 2], "x")
    assert "output" not in data["steps"][1]


def test_an_event_is_a_line() -> None:
    event = TaskEvent(
        cursor=7,
        step_id="embed[1]",
        attempt=2,
        type=TaskEventType.TASK_EVENT_TYPE_STEP_RETRYING,
        failure=Failure(reason="STEP_FAILED", message="boom"),
    )
    line = describe_event(event).plain
    assert line.split()[2:] == [
        *("7", "step", "embed[1]", "retrying", "(attempt", "2)", "STEP_FAILED:", "boom")
    ]


def test_what_a_step_waits_for_is_told() -> None:
    event = TaskEvent(
        cursor=7,
        step_id="pause",
        attempt=1,
        type=TaskEventType.TASK_EVENT_TYPE_STEP_WAITING,
        detail={"for": "signal:approved"},
    )
    line = describe_event(event).plain
    assert line.split()[3:] == [*("step", "pause", "waiting", "(for", "signal:approved)")]


def test_spans_of_time_have_a_fitting_unit() -> None:
    assert [duration(seconds) for seconds in (0.0123, 1.5, 99, 130)] == [
        *("12.3 ms", "1.5 s", "99.0 s", "2.2 min")
    ]


def test_a_long_text_is_shortened_to_a_line() -> None:
    assert shortened("a\n  b  c", 10) == "a b c"
    assert shortened("abcdefgh", 5) == "abcd…"


def test_ids_of_tasks_are_whole_on_a_narrow_screen_and_empty_columns_are_left_out() -> None:
    found = [Task(task_id=f"01a200fa-1d45-7218-a2d0-4b4933aa79a{i}", state=4) for i in range(2)]
    found[1].labels["stepwire.schedule"] = "a-name-that-is-rather-long-for-a-column"
    screen = Console(width=80, file=io.StringIO(), record=True)
    screen.print(task_rows(found))
    text = screen.export_text()
    assert all(task.task_id in text for task in found)
    assert "LABELS" in text
    assert "WORKFLOW" not in text


def test_help_fills_lines_and_keeps_examples_as_they_are() -> None:
    text = runner.invoke(app, ["schedules", "apply", "--help"], env={"COLUMNS": "80"}).stdout
    lines = [line.strip() for line in text.splitlines()]
    assert "The file holds name, cron and task, and if wanted time_zone, overlap_policy" in lines
    example = lines.index("name: nightly")
    assert lines[example + 3] == "task: {workflow: report, input: {days: 1}}"
