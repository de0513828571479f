"""Shows how many tasks fare: bars on a terminal, a line now and then elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as ElapsedColumn

from stepwire.sdk.board import Board
from stepwire.sdk.tally import Tally

_LINE_EVERY_SECONDS = 5.0


def make_board(screen: Console) -> Board:
    """Returns the board that suits a screen."""
    return LiveBoard(screen) if screen.is_terminal else PlainBoard(screen)


class LiveBoard:
    """A bar for each phase, redrawn in place."""

    def __init__(self, screen: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            ElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=screen,
        )
        self._tally = Tally(total=0)
        self._bar: TaskID | None = None
        self._started = 0.0

    def begin(self, phase: str, tally: Tally) -> None:
        """Adds a bar."""
        self._tally, self._started = tally, time.monotonic()
        if self._bar is not None:
            # The finished bar stays on the screen; it is not drawn a second time.
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(phase, total=tally.total, detail="")
        self._progress.start()

    def update(self) -> None:
        """Moves the bar on; the screen is drawn ten times a second."""
        assert self._bar is not None
        seconds = time.monotonic() - self._started
        detail = _detail(self._tally, seconds, running=True)
        self._progress.update(self._bar, completed=self._tally.done, detail=detail)

    def end(self) -> None:
        """Leaves the bar as it is."""
        assert self._bar is not None
        seconds = time.monotonic() - self._started
        detail = _detail(self._tally, seconds, running=False)
        self._progress.update(self._bar, completed=self._tally.done, detail=detail)
        self._progress.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self._progress.console.print(text, style="bold magenta")


class PlainBoard:
    """Lines for logs and files."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._phase = ""
        self._tally = Tally(total=0)
        self._started = self._told = 0.0

    def begin(self, phase: str, tally: Tally) -> None:
        """Tells that a phase begins."""
        self._phase, self._tally = phase, tally
        self._started = self._told = time.monotonic()
        self._screen.print(f"{phase}: {tally.total} tasks")

    def update(self) -> None:
        """Tells the state if the last line is a while ago."""
        if time.monotonic() - self._told >= _LINE_EVERY_SECONDS:
            self._tell(running=True)

    def end(self) -> None:
        """Tells the final state."""
        self._tell(running=False)

    def say(self, text: str) -> None:
        """Prints a line."""
        self._screen.print(f"{self._phase}: {text}", soft_wrap=True)

    def _tell(self, *, running: bool) -> None:
        self._told = time.monotonic()
        seconds = self._told - self._started
        self._screen.print(
            f"{self._phase}: {self._tally.done}/{self._tally.total} done after {seconds:.1f} s, "
            f"{_detail(self._tally, seconds, running=running)}",
            soft_wrap=True,
        )


def _detail(tally: Tally, seconds: float, *, running: bool) -> str:
    words = [f"{tally.completed_steps} steps"]
    if running:
        words.append(f"{len(tally.running)} running")
    elif seconds > 0:
        words.append(f"{tally.done / seconds * 60:.0f} tasks/min")
    if tally.lost_steps:
        words.append(f"{tally.lost_steps} lost")
    if tally.failed:
        words.append(f"{tally.failed} failed")
    return ", ".join(words)
