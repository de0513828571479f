"""Naming a process so that its number can be used again without harm."""

import os
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the command's closing bracket
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessMark:
    """A process of this machine, told from a later one that got the same number.

    Attributes:
        pid: Its number.
        started: When it began, in clock ticks since the machine's start.
        boot: Which start of the machine that was.
    """

    pid: int
    started: int
    boot: str

    def is_alive(self) -> bool:
        """Returns whether exactly this process still runs; a zombie does not."""
        return _start_ticks(self.pid) == self.started and self.boot == _boot_id()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to exactly this process; does nothing if it is gone."""
        if not self.is_alive():
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def end(self, number: signal.Signals, *, grace_seconds: float) -> None:
        """Sends a signal, waits for the end, and kills after the grace. Blocks."""
        self.send(number)
        if not self.wait(grace_seconds):
            self.send(signal.SIGKILL)
            self.wait(grace_seconds)

    def wait(self, timeout_seconds: float) -> bool:
        """Waits for the end; returns whether it came in time. Blocks."""
        deadline = time.monotonic() + timeout_seconds
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def mark_of(pid: int) -> ProcessMark | None:
    """Returns the mark of a running process, None if there is none of this number."""
    started = _start_ticks(pid)
    return None if started is None else ProcessMark(pid=pid, started=started, boot=_boot_id())


def _start_ticks(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[_START_TIME_FIELD])


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
