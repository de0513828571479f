"""Showing in a terminal how a stack starts and fares."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stepwire.stack.state import PartPhase, PartState, Phase, StackState

STYLES = {
    PartPhase.WAITING: "dim",
    PartPhase.STARTING: "yellow",
    PartPhase.READY: "green",
    PartPhase.RESTARTING: "magenta",
    PartPhase.STOPPED: "dim",
    PartPhase.FAILED: "bold red",
}
TOLD = {PartPhase.READY, PartPhase.RESTARTING, PartPhase.FAILED}


class StackView:
    """Follows a stack: a live table on a terminal, a line per change elsewhere.

    The table is drawn while the stack starts and while it stops; in between a terminal
    gets a line per change too.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state: StackState | None = None
        self._since: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_live()

    @property
    def phase(self) -> Phase | None:
        """The phase that was shown last, None if none was."""
        return self._state.phase if self._state is not None else None

    def __call__(self, state: StackState) -> None:
        """Shows a new state."""
        before, self._state = self._state, state
        for part in state.parts:
            old = before.part(part.name) if before is not None else None
            if old is None or old.phase is not part.phase:
                self._since[part.name] = time.monotonic()
                if self._live is None and old is not None and _worth_telling(old, part):
                    self._tell(part)
        if state.phase in {Phase.STARTING, Phase.STOPPING}:
            self._start_live()
        else:
            self._stop_live()

    def _start_live(self) -> None:
        if self._live is None and self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console)
            self._live.start()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tell(self, part: PartState) -> None:
        words = [f"{part.name:<10}", part.phase.value]
        if part.phase is PartPhase.READY:
            words.append(f"after {part.started_seconds:.1f} s")
        if part.detail:
            words.append(f"({part.detail})")
        self._console.print(" ".join(words), highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold")
        table.add_column()
        table.add_column(justify="right")
        table.add_column(style="dim", overflow="ellipsis", no_wrap=True)
        for part in self._state.parts if self._state is not None else ():
            table.add_row(
                part.name,
                Text(part.phase.value, style=STYLES[part.phase]),
                self._seconds(part),
                Text(part.detail),
            )
        return table

    def _seconds(self, part: PartState) -> str:
        if part.phase is PartPhase.READY:
            return f"{part.started_seconds:.1f} s"
        if part.phase is PartPhase.STARTING:
            return f"{time.monotonic() - self._since[part.name]:.1f} s"
        return ""


def _worth_telling(before: PartState, after: PartState) -> bool:
    """Returns whether a change of phase is told where lines cannot be redrawn."""
    if after.phase is PartPhase.STOPPED:
        return before.process is not None
    return after.phase in TOLD
