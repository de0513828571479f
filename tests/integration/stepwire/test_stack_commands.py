"""The stack's commands where no stack runs: what they print, and their exit codes."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stepwire.cli.app import app
from stepwire.stack.home import locked, make_home
from stepwire.stack.logs import StackLogs
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.state import Phase, StackState, write_state


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_home(tmp_path / "home")
    return tmp_path / "home"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)])


def test_status_without_a_stack(home: Path) -> None:
    done = run(home, "status")
    assert done.exit_code == 3
    assert done.stdout.replace("\n", "") == f"No stack runs in {home}."
    assert json.loads(run(home, "status", "-o", "json").stdout)["phase"] is None


def test_status_says_why_the_last_stack_failed(home: Path) -> None:
    gone = ProcessMark(pid=1, started=0, boot="gone")
    state = StackState(
        phase=Phase.FAILED,
        supervisor=gone,
        port_offset=0,
        workers=2,
        broker="",
        gateway="",
        failure="model ended with exit code 1",
    )
    write_state(home, state)
    assert "The last one failed: model ended with exit code 1" in run(home, "status").stdout
    answer = json.loads(run(home, "status", "-o", "json").stdout)
    assert answer["failure"] == "model ended with exit code 1"


def test_down_without_a_stack_and_purge(home: Path) -> None:
    (home / "logs" / "x.log").write_text("x")
    assert run(home, "down").exit_code == 0
    assert home.exists()
    assert run(home, "down", "--purge").exit_code == 0
    assert not home.exists()
    assert run(home, "down", "--purge").exit_code == 0


def test_logs_of_a_part_and_of_all(home: Path) -> None:
    logs = StackLogs(home)
    logs.part("model").feed(b"one\ntwo\n")
    logs.close()
    assert run(home, "logs", "model").stdout == "one\ntwo\n"
    assert run(home, "logs", "model", "-n", "1").stdout == "two\n"
    assert "model        two" in run(home, "logs").stdout
    refused = run(home, "logs", "modle")
    assert refused.exit_code == 3
    assert "error: there is no log of 'modle'; there are: model, stack" in refused.stderr


def test_logs_are_text_unless_json_is_wanted(home: Path) -> None:
    line = '{"time":"12:00","level":"INFO","logger":"a","message":"ready","service":"model"}'
    (home / "logs" / "model.log").write_text(f"{line}\n")
    assert run(home, "logs", "model").stdout == "12:00 INFO     ready\n"
    assert run(home, "logs", "model", "-o", "json").stdout == f"{line}\n"


def test_a_second_up_says_that_its_options_are_not_taken(home: Path) -> None:
    mark = mark_of(os.getpid())
    assert mark is not None
    state = StackState(
        phase=Phase.READY,
        supervisor=mark,
        port_offset=0,
        workers=2,
        broker="rabbitmq",
        gateway="127.0.0.1:8080",
        auth=True,
    )
    write_state(home, state)
    done = run(home, "up", "--detach", "--workers", "5")
    assert done.exit_code == 0
    told = " ".join(done.stdout.split())
    assert "Stepwire is up: gateway at http://127.0.0.1:8080 It was up already" in told
    assert "keys on" in run(home, "status").stdout
    with locked(home):
        refused = run(home, "up")
    assert refused.exit_code == 5
    assert f"error: a stack runs already in {home}" in refused.stderr.replace("\n", " ")


def test_doctor_finds_this_machine_fit_and_starts_nothing(home: Path) -> None:
    # An outgoing connection of another test may hold one of the ports for a moment.
    for offset in ("7000", "5000", "3000", "2000", "1000"):
        done = run(home, "doctor", "--port-offset", offset)
        if done.exit_code == 0:
            break
    assert done.exit_code == 0, done.stdout
    for subject in ("postgres", "pgvector", "envoy", "rabbitmq", "weights", "ports"):
        assert subject in done.stdout
    assert "fault" not in done.stdout
    assert sorted(path.name for path in home.iterdir()) == ["logs", "spans"]


def test_doctor_names_a_fault_and_its_fix(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_MODEL_PORT", "99999")
    (home / "stack.json").write_text("{")
    done = run(home, "doctor")
    assert done.exit_code == 1
    assert "cannot be understood" in " ".join((done.stdout + done.stderr).split())


def test_a_faulty_setting_is_a_message_not_a_traceback(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWIRE_MODEL_PORT", "99999")
    done = run(home, "up", "--detach")
    assert done.exit_code == 1
    assert "STEPWIRE_MODEL_PORT gives model the port 99999" in " ".join(done.stderr.split())
