"""The processes of a run: executors and workers that are restarted when they end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stepwire import failpoints
from stepwire.stack.process import Command
from stepwire.testing.poll import eventually
from tests.chaos.clocks import Clocks
from tests.chaos.history import Halt

ROOT = Path(__file__).parents[2]
EXECUTOR, WORKER = "executor", "worker"
MODULES = {EXECUTOR: "executor_svc", WORKER: "executor_svc.worker"}
READY = {EXECUTOR: "executor is ready", WORKER: "worker is ready"}
INHERITED = ("PATH", "HOME", "LANG")
LOOK_SECONDS = 0.02
RESTART_SECONDS = 0.1
TERMINATE_SECONDS = 15.0


class Part:
    """A process and those that follow it, in a place such as "worker-1".

    Attributes:
        name: its place.
        lives: failpoints of the lives to come; a life without an entry has none.
        log: what all its processes have written.
        halts: when its processes were stopped and when they ended.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        settings: Mapping[str, object],
        extra: Mapping[str, str],
        clocks: Clocks,
    ) -> None:
        """Make the part `name`, such as "worker-1".

        `settings` are its settings by their fields' names, `extra` further variables of its
        environment.
        """
        self.kind = name.partition("-")[0]
        self.name = name
        self.lives: deque[str] = deque()
        self.halts: list[Halt] = []
        self.log = folder / f"{self.name}.log"
        self.log.touch()
        self._prefix = f"STEPWIRE_{self.kind.upper()}_"
        self._environment = {
            **{key: os.environ[key] for key in INHERITED if key in os.environ},
            "PYTHONPATH": str(ROOT),
            **{f"{self._prefix}{key.upper()}": _text(value) for key, value in settings.items()},
            **extra,
        }
        self._clocks = clocks
        self._armed = ""
        self._fired = 0
        self._ready_before = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether a process runs, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and start it again whenever it has ended."""
        self._start()
        self._keeping = asyncio.create_task(self._keep(), name=self.name)

    async def stop(self) -> None:
        """End it for good, at once."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> int:
        """Send the process a signal; return its id."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.pid

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text("utf-8")
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    def ready_times(self) -> int:
        """How many of its processes have become ready."""
        return self.count(READY[self.kind])

    def is_ready(self) -> bool:
        """Whether the process that runs now has become ready, and is not stopped."""
        return self.alive and self.ready_times() > self._ready_before and not self.is_stopped()

    def count(self, message: str) -> int:
        """How many of its log lines have a message that begins so."""
        return sum(str(line.get("message", "")).startswith(message) for line in self.lines())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its log lines; what is not one of its own is passed over."""
        for line in self.log.read_text("utf-8", "replace").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def firings(self) -> list[dict[str, Any]]:
        """The failpoints that have fired, in order."""
        return [line for line in self.lines() if line["message"] == failpoints.FIRED]

    def _start(self) -> None:
        armed = self._next_life()
        self._ready_before = self.ready_times()
        broken = self._environment.get("STEPWIRE_CHAOS_BROKEN")
        module = ("tests.chaos.broken", self.kind) if broken else (MODULES[self.kind],)
        command = Command(
            arguments=(sys.executable, "-m", *module),
            environment={**self._environment, f"{self._prefix}FAILPOINTS": armed},
            folder=ROOT,
        )
        with self.log.open("ab") as log:
            self._process = self._clocks.under(self.name, command).start(log)

    def _next_life(self) -> str:
        """The failpoints of the next process: those of the last one, if they have not fired."""
        fired = len(self.firings())
        if self._process is None or fired > self._fired:
            self._armed = self.lives.popleft() if self.lives else ""
        self._fired = fired
        return self._armed

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self.alive:
                self.halts.append(Halt(self.pid, time.monotonic()))
                await asyncio.sleep(RESTART_SECONDS)
                self._start()

    async def terminate(self) -> None:
        """Stop it in good order, as a deployment does; it is started again."""
        pid = self.send(signal.SIGTERM)
        await eventually(lambda: not self.alive or self.pid != pid, TERMINATE_SECONDS)


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)
