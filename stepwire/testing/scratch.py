"""Folders for the data of test servers: in memory where there is plenty, else on disk.

What a process has written survives its death in either place; only a machine that loses
power tells them apart.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PREFIX = "stepwire-test-"
MEMORY = Path("/dev/shm")  # noqa: S108 - names in it are random, as in the temporary folder
# What must be left of the machine's memory, and of what /dev/shm may take of it.
ROOM_BYTES = 6 * 2**30
LOCK = "lock"


@contextmanager
def scratch_folder(name: str, *, in_memory: bool) -> Iterator[Path]:
    """Makes a folder, gives it, and removes it afterwards.

    Those that killed processes have left in memory are removed as well.

    Args:
        name: A part of the folder's name.
        in_memory: Whether it may lie in memory.
    """
    if in_memory:
        _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-", dir=_parent(in_memory=in_memory)))
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def is_in_memory(folder: Path) -> bool:
    """Returns whether what is written to `folder` goes to no disk."""
    return folder.is_relative_to(MEMORY)


def _parent(*, in_memory: bool) -> Path | None:
    if not in_memory or not os.access(MEMORY, os.W_OK):
        return None
    room = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return MEMORY if room >= ROOM_BYTES else None


def _lock(folder: Path) -> int:
    """Marks a folder as in use; the mark goes with the process, however that ends."""
    fresh = folder / "lock.new"
    lock = os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Nobody finds it before it is locked.
    fresh.rename(folder / LOCK)
    return lock


def _remove_stale() -> None:
    for path in MEMORY.glob(f"{PREFIX}*/{LOCK}"):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Removed in the meantime, or another user's.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
