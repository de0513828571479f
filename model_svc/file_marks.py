"""What tells whether a file is still the one that was read."""

from pathlib import Path
from typing import NamedTuple


class FileMark(NamedTuple):
    """Changes when another file takes the place of one, or when it is written to."""

    inode: int
    size: int
    modified_ns: int


def file_mark(path: Path) -> FileMark:
    """Returns the mark of a file.

    Raises:
        OSError: It cannot be looked at.
    """
    status = path.stat()
    return FileMark(status.st_ino, status.st_size, status.st_mtime_ns)
