"""Reading a log file: its last lines, then what is added."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.2


def last_lines(path: Path, count: int) -> list[str]:
    """Returns the last lines of a file, without their ends."""
    with path.open(errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=count)]


def follow(path: Path) -> Iterator[str]:
    """Gives every line that is added to a file from now on, for ever.

    A file that is set aside and begun anew, as logs are when they grow too large, is
    followed from its new beginning.
    """
    file = path.open(errors="replace")
    file.seek(0, 2)
    rest = ""
    while True:
        chunk = file.readline()
        if chunk:
            rest += chunk
            if rest.endswith("\n"):
                yield rest[:-1]
                rest = ""
            continue
        if path.exists() and path.stat().st_ino != file_number(file.fileno()):
            file.close()
            file = path.open(errors="replace")
            continue
        time.sleep(POLL_SECONDS)


def file_number(descriptor: int) -> int:
    """Returns the number by which the file system knows an open file."""
    return Path(f"/proc/self/fd/{descriptor}").stat().st_ino
