"""The side-effect counter: a file to which every execution of a step adds a line.

It tells how often a step really ran, apart from what the record says. A ledger is made by
the demo and only added to by the workers, and never made by them: a task names the file it
adds to, and must not be able to write to any other.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

HEADER = b"stepwire demo ledger 1\n"


class LedgerError(Exception):
    """A file is not a ledger, or a line in it is not one."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a step.

    Attributes:
        task_id: The task.
        step_id: The step in the task.
        attempt: The attempt that was executed.
    """

    task_id: str
    step_id: str
    attempt: int


def create_ledger(path: Path) -> None:
    """Makes an empty ledger, with its folder; replaces one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER)


def add_execution(path: Path, execution: Execution) -> None:
    """Adds a line; whole lines also when several processes add at once.

    Raises:
        LedgerError: There is no ledger at `path`.
    """
    line = json.dumps([execution.task_id, execution.step_id, execution.attempt]) + "\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise LedgerError(f"{path} is not a ledger of the demo") from None
    try:
        if os.pread(descriptor, len(HEADER), 0) != HEADER:
            raise LedgerError(f"{path} is not a ledger of the demo")
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_ledger(path: Path) -> list[Execution]:
    """Returns every execution, in the order in which they were added.

    Raises:
        LedgerError: There is no ledger at `path`, or a line of it is broken.
    """
    header, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    if header != HEADER:
        raise LedgerError(f"{path} is not a ledger of the demo")
    return [_read_line(path, number, line) for number, line in enumerate(lines, start=2)]


def _read_line(path: Path, number: int, line: bytes) -> Execution:
    try:
        task_id, step_id, attempt = json.loads(line)
    except ValueError:
        raise LedgerError(f"{path}, line {number}, is not an execution: {line!r}") from None
    return Execution(task_id=task_id, step_id=step_id, attempt=attempt)
