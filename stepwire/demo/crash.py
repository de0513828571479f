"""Kills workers of the local stack without warning."""

import random
import signal
from dataclasses import dataclass
from pathlib import Path

from stepwire.sdk.tally import Tally
from stepwire.stack.state import PartState, read_state

WORKER_PREFIX = "worker-"

# When to strike: some tasks are done, so that there is a record to keep, and some are
# not, so that there is work to lose.
_EARLIEST = 0.1
_LATEST = 0.9


class CrashError(Exception):
    """There is no worker that could be killed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed.

    Attributes:
        phase: During which phase of the run, e.g. "documents".
        worker: Name of the part, e.g. "worker-1".
        pid: Its process.
        running_steps: Steps that ran at that moment, on all workers.
        done_tasks: Tasks of the phase that had ended by then.
        total_tasks: Tasks of the phase.
    """

    phase: str
    worker: str
    pid: int
    running_steps: int
    done_tasks: int
    total_tasks: int


class Killer:
    """Kills one worker with SIGKILL in each phase of a run, in the middle of the work.

    Args:
        home: Home folder of the local stack.
        chooser: Chooses which worker it is.
    """

    def __init__(self, home: Path, *, chooser: random.Random | None = None) -> None:
        self._home = home
        # Which worker dies is no secret.
        self._chooser = chooser or random.Random()  # noqa: S311
        self.kills: list[Kill] = []

    def consider(self, phase: str, tally: Tally) -> Kill | None:
        """Kills a worker if this is the moment and none was killed in this phase yet.

        Returns:
            What was done; None if nothing was.

        Raises:
            CrashError: The local stack has no worker process.
        """
        share = tally.done / tally.total
        is_moment = _EARLIEST <= share <= _LATEST and tally.running
        if not is_moment or any(kill.phase == phase for kill in self.kills):
            return None
        worker = self._chooser.choice(self.workers())
        process = worker.process
        assert process is not None
        # The mark tells the process from a later one of the same number.
        process.send(signal.SIGKILL)
        kill = Kill(
            phase=phase,
            worker=worker.name,
            pid=process.pid,
            running_steps=len(tally.running),
            done_tasks=tally.done,
            total_tasks=tally.total,
        )
        self.kills.append(kill)
        return kill

    def workers(self) -> list[PartState]:
        """Returns the workers that run now.

        Raises:
            CrashError: There is none, as with the in-process broker.
        """
        state = read_state(self._home)
        parts = state.parts if state is not None else ()
        alive = [
            part
            for part in parts
            if part.name.startswith(WORKER_PREFIX) and part.process and part.process.is_alive()
        ]
        if not alive:
            raise CrashError(
                f"the stack in {self._home} has no worker process to kill; with the in-process "
                "broker, steps run inside the executor: install rabbitmq-server, or set its URL"
            )
        return alive
