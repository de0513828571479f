"""Reading a log file: its last lines, then what is added."""

import os
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

POLL_SECONDS = 0.2


def last_lines(path: Path, count: int) -> list[str]:
    """Returns the last lines of a file, without their ends."""
    with path.open(errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=count)]


def follow(path: Path) -> Generator[str, None, None]:
    """Gives every line that is added to a file from this call on, for ever.

    A file that is set aside and begun anew, as logs are when they grow too large, is
    followed from its new beginning.
    """
    file = path.open(errors="replace")
    file.seek(0, os.SEEK_END)
    return _lines(path, file)


def _lines(path: Path, file: TextIO) -> Generator[str, None, None]:
    rest = ""
    try:
        while True:
            rest += file.readline()
            if rest.endswith("\n"):
                yield rest[:-1]
                rest = ""
            elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = path.open(errors="replace")
            else:
                time.sleep(POLL_SECONDS)
    finally:
        file.close()
