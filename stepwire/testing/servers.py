"""Runs a server of somebody else's for tests."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwire.stack.process import Command
from stepwire.testing.poll import eventually_blocking


@contextmanager
def running(
    name: str,
    command: Command,
    answers: Callable[[], bool],
    *,
    log: Path,
    within_seconds: float,
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[None]:
    """Runs a server within the block, from its first answer on.

    Args:
        name: What it is, for the message when it does not start.
        command: Starts it in the foreground.
        answers: Whether it answers.
        log: Takes what it prints.
        within_seconds: How long it may take until it answers.
        end: What ends it; nothing of its data is wanted any more.

    Raises:
        AssertionError: It did not start.
    """
    with log.open("wb") as output:
        process = command.start(output)
    try:
        eventually_blocking(lambda: process.poll() is not None or answers(), within_seconds)
        assert process.poll() is None, f"{name} did not start: {log.read_text()}"
        yield
    finally:
        process.send_signal(end)
        process.wait()
