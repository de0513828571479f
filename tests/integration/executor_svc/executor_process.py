"""An executor as a process of its own, to be killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwire.stack.ports import LOOPBACK, free_port
from tests.integration.executor_svc.worker_process import ROOT


class ExecutorProcess:
    """A running `python -m executor_svc`."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self._process = process
        self.address = address

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def executor_process(log: Path, **settings: object) -> Iterator[ExecutorProcess]:
    """Start an executor; it is killed at the end if it is still there."""
    port = free_port()
    fields = {"port": port, **settings}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **{f"STEPWIRE_EXECUTOR_{name.upper()}": str(value) for name, value in fields.items()},
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "executor_svc"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield ExecutorProcess(process, f"{LOOPBACK}:{port}")
    finally:
        process.kill()
        process.wait()
