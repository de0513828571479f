"""The stack's logs: one file per part, and one with the lines of all."""

import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

COMBINED = "stack"
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
KEPT_LINES = 12


def log_path(home: Path, part: str = COMBINED) -> Path:
    """Returns the log file of a part, or of all parts together."""
    return home / "logs" / f"{part}.log"


class RotatingFile:
    """A file that is set aside as `NAME.1` when it has grown too large."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file: BinaryIO = path.open("ab")

    def write(self, line: bytes) -> None:
        """Appends one line, which brings its own line end."""
        if self._file.tell() + len(line) > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class StackLogs:
    """Takes what the parts write, line by line."""

    def __init__(self, home: Path) -> None:
        log_path(home).parent.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._combined = RotatingFile(log_path(home))
        self._parts: dict[str, PartLog] = {}

    def part(self, name: str) -> "PartLog":
        """Returns the log of a part, the same one for all its processes."""
        if name not in self._parts:
            self._parts[name] = PartLog(name, RotatingFile(log_path(self._home, name)), self)
        return self._parts[name]

    def note(self, message: str) -> None:
        """Writes a line of the supervisor's own."""
        self.combine("supervisor", message.encode() + b"\n")

    def combine(self, name: str, line: bytes) -> None:
        """Writes a part's line to the combined log, with the time and its name."""
        now = time.time()
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        self._combined.write(f"{clock}.{int(now % 1 * 1000):03}Z {name:<12} ".encode() + line)

    def close(self) -> None:
        """Closes all files."""
        for part in self._parts.values():
            part.close()
        self._combined.close()


class PartLog:
    """The log of one part: cuts a byte stream into lines."""

    def __init__(self, name: str, file: RotatingFile, logs: StackLogs) -> None:
        self._name = name
        self._file = file
        self._logs = logs
        self._rest = b""
        self._last: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that were written."""
        return tuple(self._last)

    def feed(self, chunk: bytes) -> None:
        """Takes bytes as they come."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._write(line)

    def end(self) -> None:
        """Takes note that a process has ended: an unfinished line is one all the same."""
        if self._rest:
            self._write(self._rest)
            self._rest = b""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._last.append(line.decode(errors="replace"))
        self._file.write(line + b"\n")
        self._logs.combine(self._name, line + b"\n")
