"""What `up` refuses before it starts anything, and what it cleans up first."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepwire.stack.daemon import StackError, run_stack
from stepwire.stack.detached import start_detached, stop_stack
from stepwire.stack.home import AlreadyRunningError, locked, make_home
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.plan import StackOptions
from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.stack.state import (
    PartPhase,
    PartState,
    Phase,
    StackState,
    StateError,
    read_state,
    write_state,
)
from stepwire.testing.ports import free_port_offset


def ignore(_: StackState) -> None:
    """Shows nothing."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_home(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Gives the model service a port on which this test listens."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port = int(server.getsockname()[1])
        monkeypatch.setenv("STEPWIRE_MODEL_PORT", str(port))
        yield port


def a_state(mark: ProcessMark, *parts: PartState, phase: Phase = Phase.READY) -> StackState:
    return StackState(
        phase=phase,
        supervisor=mark,
        port_offset=0,
        workers=1,
        broker="rabbitmq",
        gateway="127.0.0.1:8080",
        parts=parts,
    )


@pytest.mark.parametrize("start", [run_stack, start_detached])
def test_a_taken_port_is_found_before_anything_starts(
    home: Path, taken_port: int, start: Callable[..., object]
) -> None:
    with pytest.raises(StackError) as caught:
        start(StackOptions(home=home, port_offset=free_port_offset(workers=1)), on_change=ignore)
    message = str(caught.value)
    assert f"model needs port {taken_port}, which process {os.getpid()} (" in message
    assert message.count("--port-offset") == 1
    assert (
        "with --port-offset 100 or STEPWIRE_PORT_OFFSET=100; or set STEPWIRE_MODEL_PORT" in message
    )
    state = read_state(home)
    assert state is not None
    assert state.phase is Phase.FAILED
    assert state.failure == message
    assert state.parts == ()
    assert not (home / "postgres").exists()


def test_two_parts_on_one_port_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(free_port())
    monkeypatch.setenv("STEPWIRE_MODEL_PORT", port)
    monkeypatch.setenv("STEPWIRE_ROUTER_PORT", port)
    with pytest.raises(StackError, match=f"router and model both want port {port}"):
        run_stack(StackOptions(home=home), on_change=ignore)


def test_a_home_has_one_supervisor(home: Path) -> None:
    with locked(home), pytest.raises(AlreadyRunningError, match=f"runs already in {home}"):
        run_stack(StackOptions(home=home), on_change=ignore)


def test_leftovers_of_a_killed_supervisor_are_ended(home: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as left, subprocess.Popen(["sleep", "1000"]) as other:
        mark, stranger = mark_of(left.pid), mark_of(other.pid)
        assert mark is not None
        assert stranger is not None
        recycled = ProcessMark(pid=stranger.pid, started=stranger.started - 5, boot=stranger.boot)
        write_state(
            home,
            a_state(
                ProcessMark(pid=1, started=0, boot="gone"),
                PartState(name="one", phase=PartPhase.READY, process=mark),
                PartState(name="two", phase=PartPhase.READY, process=recycled),
            ),
        )
        assert stop_stack(home)
        assert not stop_stack(home)
        assert left.wait(10) == -signal.SIGTERM
        assert other.poll() is None, "a process that got the number later was ended"
        other.kill()


def test_a_damaged_state_file_is_told_not_overwritten(home: Path) -> None:
    (home / "stack.json").write_text('{"phase": "rea')
    with pytest.raises(StackError, match=r"stack\.json cannot be understood"):
        run_stack(StackOptions(home=home), on_change=ignore)
    with pytest.raises(StateError):
        read_state(home)


def test_stopping_where_nothing_runs(home: Path) -> None:
    assert not stop_stack(home)
    write_state(home, a_state(ProcessMark(pid=1, started=0, boot="gone")))
    assert not stop_stack(home)
    state = read_state(home)
    assert state is not None
    assert not state.is_up()
