"""The home folder of a stack: its layout, its lock, its removal."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwire.stack.account import stand_ins

LOCK_NAME = "lock"


class AlreadyRunningError(Exception):
    """Another supervisor runs the stack of this home folder."""


def make_home(home: Path) -> None:
    """Makes the folder: others may pass through it, as Postgres' account must, not look."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)
    for private in ("logs", "spans"):
        (home / private).mkdir(exist_ok=True)
        (home / private).chmod(0o700)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Holds the home folder's lock, which the kernel frees when the process ends.

    Raises:
        AlreadyRunningError: Another process holds it.
    """
    with (home / LOCK_NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"a stack runs already in {home}; `stepwire status` shows it"
            ) from error
        yield


def purge(home: Path) -> None:
    """Removes all data, logs and state of a stack that does not run.

    Raises:
        AlreadyRunningError: It does run.
    """
    if home.exists():
        with locked(home):
            shutil.rmtree(home)
    # What stands in for this home folder's database, or stood in for that of an earlier
    # home folder of the same path.
    for folder in stand_ins(home / "postgres"):
        shutil.rmtree(folder)
