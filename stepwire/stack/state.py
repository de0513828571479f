"""Where a stack is and how it fares: the file `stack.json` in its home folder.

The supervisor writes it at every change; every other command reads it. For callers:

    state = read_state(default_home())
    if state is not None and state.is_up():
        channel = open_channel(state.gateway)
        pids = [part.pid for part in state.parts if part.name.startswith("worker-")]
"""

import dataclasses
import json
import os
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from stepwire.stack.mark import ProcessMark

FILE_NAME = "stack.json"
HOME_VARIABLE = "STEPWIRE_HOME"


class Phase(StrEnum):
    """What a stack as a whole is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class PartPhase(StrEnum):
    """What one part of a stack is doing."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class PartState:
    """One part.

    Attributes:
        name: For example "postgres", "executor", "worker-1".
        phase: What it is doing.
        process: Its process while it has one.
        stop_signal: The signal that ends it in good order.
        ports: Its ports on 127.0.0.1 by purpose, e.g. {"grpc": 50051, "metrics": 9101}.
        restarts: How often it was started again after a crash.
        started_seconds: Time from its start to its readiness, 0 before.
        detail: What to know besides, e.g. why it waits or how it ended; may be empty.
    """

    name: str
    phase: PartPhase = PartPhase.WAITING
    process: ProcessMark | None = None
    stop_signal: int = int(signal.SIGTERM)
    ports: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    started_seconds: float = 0.0
    detail: str = ""

    @property
    def pid(self) -> int | None:
        """The number of its process while it has one."""
        return None if self.process is None else self.process.pid


@dataclass(frozen=True, kw_only=True)
class StackState:
    """A whole stack.

    Attributes:
        phase: What it is doing; may be out of date if its supervisor was killed, see
            `is_up`.
        supervisor: The process that runs it.
        port_offset: How far all its ports are moved from their defaults.
        workers: How many worker processes it has.
        broker: "rabbitmq" (its own node), "external" (a URL was given) or "in-process".
        gateway: Host and port of the gateway, for gRPC, gRPC-Web and JSON.
        parts: In the order in which they start.
        failure: Why the stack is `failed`; empty otherwise.
        auth: Whether the gateway asks for keys.
    """

    phase: Phase
    supervisor: ProcessMark
    port_offset: int
    workers: int
    broker: str
    gateway: str
    parts: tuple[PartState, ...] = ()
    failure: str = ""
    auth: bool = False

    def is_running(self) -> bool:
        """Returns whether its supervisor runs, in whatever phase."""
        return self.phase not in {Phase.STOPPED, Phase.FAILED} and self.supervisor.is_alive()

    def was_killed(self) -> bool:
        """Returns whether its supervisor is gone without having stopped it."""
        return self.phase not in {Phase.STOPPED, Phase.FAILED} and not self.supervisor.is_alive()

    def has_processes(self) -> bool:
        """Returns whether a part's process still runs."""
        return any(part.process is not None and part.process.is_alive() for part in self.parts)

    def is_up(self) -> bool:
        """Returns whether it takes calls: every part was ready, and it is not stopping."""
        return self.phase is Phase.READY and self.supervisor.is_alive()

    def part(self, name: str) -> PartState | None:
        """Returns the part of this name."""
        return next((part for part in self.parts if part.name == name), None)


class StateError(Exception):
    """The state file is not one that this version wrote."""


def default_home() -> Path:
    """Returns the home folder: STEPWIRE_HOME, or `.stepwire` in the current folder."""
    return Path(os.environ.get(HOME_VARIABLE) or ".stepwire").absolute()


def read_state(home: Path) -> StackState | None:
    """Returns the state of the stack in `home`; None if there never was one.

    Raises:
        StateError: The file is there but cannot be understood.
    """
    try:
        text = (home / FILE_NAME).read_text()
    except FileNotFoundError:
        return None
    try:
        return _decode(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(
            f"{home / FILE_NAME} cannot be understood ({error!r}); after making sure that no "
            f"`stepwire up` runs, remove it"
        ) from error


def write_state(home: Path, state: StackState) -> None:
    """Replaces the state file in one step: a reader sees the old or the new, whole."""
    fresh = home / f"{FILE_NAME}.new"
    fresh.write_text(json.dumps(dataclasses.asdict(state), indent=1))
    fresh.replace(home / FILE_NAME)


def _decode(raw: dict[str, Any]) -> StackState:
    parts = (_decode_part(part) for part in raw.pop("parts"))
    return StackState(
        phase=Phase(raw.pop("phase")),
        supervisor=ProcessMark(**raw.pop("supervisor")),
        parts=tuple(parts),
        **raw,
    )


def _decode_part(raw: dict[str, Any]) -> PartState:
    process = raw.pop("process")
    return PartState(
        phase=PartPhase(raw.pop("phase")),
        process=None if process is None else ProcessMark(**process),
        **raw,
    )
