"""The state file, the secrets, the logs."""

import signal
import stat
from contextlib import closing
from pathlib import Path

import pytest

from stepwire.stack.logs import MAX_LINE_BYTES, RotatingFile, StackLogs, log_path
from stepwire.stack.mark import ProcessMark
from stepwire.stack.secrets import stack_secrets
from stepwire.stack.state import (
    PartPhase,
    PartState,
    Phase,
    StackState,
    StateError,
    default_home,
    read_state,
    write_state,
)
from stepwire.stack.tail import follow, last_lines

MARK = ProcessMark(pid=7, started=99, boot="b")
STATE = StackState(
    phase=Phase.READY,
    supervisor=MARK,
    port_offset=3,
    workers=2,
    broker="rabbitmq",
    gateway="127.0.0.1:8083",
    parts=(
        PartState(
            name="model",
            phase=PartPhase.READY,
            process=MARK,
            stop_signal=int(signal.SIGINT),
            ports={"grpc": 50057},
            restarts=1,
            started_seconds=1.5,
        ),
        PartState(name="worker-1", detail="waits for executor"),
    ),
)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"phase": "new", "parts": []}', "null"])
def test_a_file_that_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(StateError, match="cannot be understood"):
        read_state(tmp_path)


def test_a_stack_whose_supervisor_is_gone_is_not_up() -> None:
    assert not STATE.is_up()
    assert not STATE.is_running()
    part = STATE.part("model")
    assert part is not None
    assert part.pid == 7
    assert STATE.part("gone") is None


def test_home_is_the_variables_or_the_current_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEPWIRE_HOME", raising=False)
    assert default_home() == tmp_path / ".stepwire"
    monkeypatch.setenv("STEPWIRE_HOME", "there")
    assert default_home() == tmp_path / "there"


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = stack_secrets(tmp_path)
    assert stack_secrets(tmp_path) == first
    assert first.postgres_password != first.rabbitmq_password
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_logs_are_cut_into_lines_wherever_the_chunks_end(tmp_path: Path) -> None:
    logs = StackLogs(tmp_path)
    log = logs.part("model")
    for chunk in (b"on", b"e\ntwo\nthr", b"ee"):
        log.feed(chunk)
    assert log.last_lines == ("one", "two")
    log.end()
    logs.close()
    assert log_path(tmp_path, "model").read_text() == "one\ntwo\nthree\n"
    assert [line.split(" ", 1)[1] for line in last_lines(log_path(tmp_path), 9)] == [
        "model        one",
        "model        two",
        "model        three",
    ]
    assert last_lines(log_path(tmp_path, "model"), 1) == ["three"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    logs = StackLogs(tmp_path)
    log = logs.part("model")
    log.feed(b"x" * (MAX_LINE_BYTES + 1))
    logs.close()
    assert log_path(tmp_path, "model").stat().st_size == MAX_LINE_BYTES + 2


def test_a_log_file_that_grew_too_large_is_set_aside(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log", max_bytes=8)
    for line in (b"one\n", b"two\n", b"three\n"):
        file.write(line)
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"three\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"one\ntwo\n"


def test_following_a_log_goes_on_when_it_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old\n")
    with closing(follow(path)) as lines:
        with path.open("a") as file:
            file.write("one\ntwo\n")
        assert [next(lines), next(lines)] == ["one", "two"]
        path.rename(tmp_path / "a.log.1")
        path.write_text("three\n")
        assert next(lines) == "three"
