"""A worker as a process of its own, to be killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.executor_svc.executor_mesh import FUNCTIONS, LONG_LEASE, Mesh

ROOT = Path(__file__).parents[3]
STOP_SECONDS = 60


class WorkerProcess:
    """A running `python -m executor_svc.worker`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(STOP_SECONDS)


@contextmanager
def worker_process(mesh: Mesh, log: Path, **settings: object) -> Iterator[WorkerProcess]:
    """Start a worker process; it is killed at the end if it is still there."""
    fields = {
        "postgres_url": mesh.database_url,
        "rabbitmq_url": mesh.rabbitmq_url,
        "mq_namespace": mesh.namespace,
        "step_modules": json.dumps([FUNCTIONS]),
        "republish_after_seconds": mesh.shared["republish_after_seconds"],
        **LONG_LEASE,
        **settings,
    }
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **{f"STEPWIRE_WORKER_{name.upper()}": str(value) for name, value in fields.items()},
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "executor_svc.worker"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield WorkerProcess(process, log)
    finally:
        process.kill()
        process.wait()
