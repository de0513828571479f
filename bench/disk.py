"""What the disk asks of everything that is durable: a write that is waited for."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Postgres writes its log in pages of this size.
PAGE = b"\1" * 8192
FILE_PAGES = 2048


class Disk:
    """A file on the disk of the record, already as long as it gets, as its log is."""

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        self._page = 0

    def write(self) -> float:
        """Write one page and wait until it is safe; return the milliseconds."""
        started = time.perf_counter()
        os.pwrite(self._file, PAGE, self._page * len(PAGE))
        os.fdatasync(self._file)
        self._page = (self._page + 1) % FILE_PAGES
        return (time.perf_counter() - started) * 1000


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Open a file of its own in a folder; gone after the block."""
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FILE_PAGES):
            file.write(PAGE)
        file.flush()
        os.fsync(file.fileno())
        yield Disk(file.fileno())
