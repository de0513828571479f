"""What the supervisor has to know about a part."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from stepwire.stack.process import Command
from stepwire.stack.readable import brief


def nothing() -> None:
    """Prepares nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the stack.

    Attributes:
        name: Unique within the stack; also names its log file.
        command: Gives what to run. Called after `prepare`, before every start.
        is_ready: Whether the part answers, asked by its own protocol. It may raise to
            say why it never will; then the start fails with that message.
        needs: Names of the parts that must be ready before this one is started.
        uses: Names of the parts that it calls while it runs. What it needs or uses is
            stopped after it.
        ports: The ports it will listen on, by purpose.
        port_variables: The environment variable that moves each of `ports`.
        prepare: Work before every start, such as making a data folder. Runs in a thread.
        start_seconds: Longest time from start to readiness.
        stop_seconds: Longest time from the stop signal to the end; then it is killed.
    """

    name: str
    command: Callable[[], Command]
    is_ready: Callable[[], Awaitable[bool]]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    port_variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = nothing
    start_seconds: float = 60.0
    stop_seconds: float = 15.0


class PartError(Exception):
    """A part failed for good.

    Attributes:
        part: Its name.
        reason: What happened, without the name.
        log_lines: The last lines that it wrote.
    """

    def __init__(self, part: str, reason: str, log_lines: tuple[str, ...] = ()) -> None:
        super().__init__(f"{part} {reason}")
        self.part = part
        self.reason = reason
        self.log_lines = log_lines

    def with_log(self) -> str:
        """Returns the message, followed by the last lines that the part wrote."""
        if not self.log_lines:
            return str(self)
        lines = (f"  {brief(line)}" for line in self.log_lines)
        return "\n".join([f"{self}. Its last log lines:", *lines])
