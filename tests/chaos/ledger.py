"""What step functions did, noted outside the record: one file per process, only added to.

A line is written by one call before the function goes on, so that it outlives SIGKILL.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "STEPWIRE_CHAOS_LEDGER"


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a step's function.

    Attributes:
        task: the task's id.
        step: the step's id.
        attempt: the attempt it ran for.
        key: the idempotency key it was given.
        nonce: made anew by each execution; part of its output.
        pid: the process.
        saw: the nonces in its input: whose outputs it was given.
        begun, ended: by the machine's monotonic clock; `ended` is None if it never did.
        wall: what the process took for the time of day when it began.
        failed: whether it ended by raising.
    """

    task: str
    step: str
    attempt: int
    key: str
    nonce: str
    pid: int
    saw: tuple[str, ...]
    begun: float
    wall: float
    ended: float | None = None
    failed: bool = False


class Ledger:
    """The ledger of this process."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(folder / f"{os.getpid()}.jsonl", flags, 0o644)

    def begin(self, **fields: Any) -> None:
        """Note that an execution begins."""
        self._write("begin", begun=time.monotonic(), wall=time.time(), pid=os.getpid(), **fields)

    def end(self, *, nonce: str, failed: bool) -> None:
        """Note that it ends."""
        self._write("end", ended=time.monotonic(), nonce=nonce, failed=failed)

    def _write(self, what: str, **fields: Any) -> None:
        os.write(self._file, json.dumps([what, fields]).encode() + b"\n")


def read_ledgers(folder: Path) -> list[Execution]:
    """Read the ledgers of all processes; executions in the order in which they began."""
    begun: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.jsonl"):
        for what, fields in _lines(path):
            begun.setdefault(fields["nonce"], {}).update(fields)
            assert what in {"begin", "end"}, what
    executions = [Execution(**{**fields, "saw": tuple(fields["saw"])}) for fields in begun.values()]
    return sorted(executions, key=lambda execution: execution.begun)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text("utf-8").splitlines():
        what, fields = json.loads(line)
        yield what, fields
