"""Shows how far a file has come that is sent or received: a bar, or a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from stepwire.cli.output import console, tell

_LINE_EVERY_SECONDS = 5.0


@contextmanager
def moving(verb: str, *, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show what moves within the block, on standard error; gives what tells of more bytes.

    Args:
        verb: What is done.
        total: All bytes; None if nobody knows.
    """
    screen = console(stderr=True)
    show = _bar if screen.is_terminal else _lines
    with show(screen, verb, total) as moved:
        yield moved


@contextmanager
def _bar(screen: Console, verb: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task(verb, total=total)
        yield lambda size: progress.advance(bar, size)


@contextmanager
def _lines(screen: Console, verb: str, total: int | None) -> Iterator[Callable[[int], None]]:
    started = told = time.monotonic()
    done = 0

    def moved(size: int) -> None:
        nonlocal done, told
        done += size
        now = time.monotonic()
        if now - told < _LINE_EVERY_SECONDS:
            return
        told = now
        share = f" of {decimal(total)}" if total else ""
        tell(screen, f"{verb}: {decimal(done)}{share} after {now - started:.0f} s")

    yield moved
