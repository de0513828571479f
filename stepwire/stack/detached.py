"""Starting a stack in the background and stopping it again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from stepwire.stack.daemon import StackError, end_leftovers
from stepwire.stack.home import make_home
from stepwire.stack.logs import log_path
from stepwire.stack.plan import StackOptions
from stepwire.stack.state import Phase, StackState, read_state

POLL_SECONDS = 0.05
STOP_LIMIT_SECONDS = 90.0
MODULE = "stepwire.stack"
Watch = Callable[[StackState], None]


def start_detached(options: StackOptions, *, on_change: Watch) -> StackState:
    """Starts a stack in the background and returns when all its parts are ready.

    If it runs already, or is being started by another, that one is waited for. An
    interrupt by the user while it starts stops it again.

    Args:
        options: The user's wishes.
        on_change: Called with every new state on the way.

    Raises:
        StackError: It did not start; everything is stopped.
    """
    make_home(options.home)
    running = read_state(options.home)
    if running is not None and running.is_running():
        return _wait_until_ready(options.home, None, on_change)
    with log_path(options.home, "supervisor").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Not as arguments, which every user of the machine can read: a URL has a password.
    assert process.stdin is not None
    process.stdin.write(_encode(options))
    process.stdin.close()
    try:
        return _wait_until_ready(options.home, process, on_change)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def stop_stack(home: Path) -> bool:
    """Stops the stack of a home folder and waits for its end.

    Where the supervisor was killed, what it has left running is ended.

    Returns:
        Whether there was one to stop.

    Raises:
        StackError: It did not end in time.
    """
    state = read_state(home)
    if state is None or not state.is_running():
        return end_leftovers(home)
    state.supervisor.send(signal.SIGTERM)
    if not state.supervisor.wait(STOP_LIMIT_SECONDS):
        raise StackError(
            f"the supervisor, process {state.supervisor.pid}, has not ended within "
            f"{STOP_LIMIT_SECONDS:g} s; see {log_path(home)}"
        )
    return True


def decode_options(text: bytes) -> StackOptions:
    """Returns the options that `start_detached` gave to the supervisor process."""
    raw = json.loads(text)
    return StackOptions(**{**raw, "home": Path(raw["home"])})


def _encode(options: StackOptions) -> bytes:
    return json.dumps({**asdict(options), "home": os.fspath(options.home)}).encode()


def _wait_until_ready(
    home: Path, process: subprocess.Popen[bytes] | None, on_change: Watch
) -> StackState:
    """Follows the state file until the stack is ready."""
    last: StackState | None = None
    while True:
        exit_code = process.poll() if process is not None else None
        state = read_state(home)
        # The file may still hold the state of an earlier supervisor.
        current = state is not None and (process is None or state.supervisor.pid == process.pid)
        if state is not None and current and state != last:
            on_change(state)
            last = state
        if state is not None and current and state.phase is Phase.READY:
            return state
        over = exit_code is not None if process is not None else not _runs(state)
        if over:
            raise StackError(_failure(home, state if current else None))
        time.sleep(POLL_SECONDS)


def _runs(state: StackState | None) -> bool:
    return state is not None and state.is_running()


def _failure(home: Path, state: StackState | None) -> str:
    if state is not None and state.failure:
        return state.failure
    return f"the supervisor ended; see {log_path(home, 'supervisor')}"
