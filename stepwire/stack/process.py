"""Starting and stopping one operating-system process."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to run: what, with which environment, as whom, and how to stop it.

    Attributes:
        arguments: The program's path and its arguments.
        environment: The whole environment of the process; nothing is inherited.
        account: The user to run as; None for the caller's own. Only root may name one.
        folder: The working directory.
        stop_signal: What makes the program end in good order. The kernel sends the same
            signal when the process that started it dies.
        stop_again_seconds: How long after a stop signal to send it again, for a program
            that may miss one; None to send it once.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    account: str | None = None
    folder: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    stop_again_seconds: float | None = None

    def launch_line(self) -> list[str]:
        """Returns the full command line, launcher included."""
        return [
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            self.account or "-",
            str(int(self.stop_signal)),
            str(os.getpid()),
            *self.arguments,
        ]

    def start(self, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Starts the program in a session of its own, its output going to `output`.

        Must be called from a thread that lives as long as the program is to live: the
        kernel takes the end of the starting thread for the death of the parent.
        """
        return subprocess.Popen(
            self.launch_line(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=dict(self.environment),
            # A terminal's Ctrl-C goes to the supervisor alone, which stops its parts
            # in order.
            start_new_session=True,
        )
