"""`stepwire demo`: the whole system at work on real documents."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli import stack
from stepwire.cli.board import make_board
from stepwire.cli.connect import Connection, connect, home_folder
from stepwire.cli.demo_report import print_report
from stepwire.cli.exits import CommandError, ExitCode, run
from stepwire.cli.options import HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json
from stepwire.demo.crash import CrashError, Killer
from stepwire.demo.report import Report
from stepwire.demo.run import run_demo
from stepwire.stack.state import StateError, read_state


def demo(
    *,
    crash: Annotated[
        bool,
        typer.Option("--crash", help="Kill a worker while documents are read, and again later."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a stack running that was started for the demo.")
    ] = False,
    home: HomeOption = None,
    port_offset: stack.PortOffset = None,
    workers: stack.Workers = 2,
    rabbitmq_url: stack.RabbitmqUrl = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read the Python language reference, then answer questions from it, with sources.

    One task per topic: split, embed, upsert; one per question: embed, search, answer, cite.
    Start the local stack if it does not run, and stop it afterwards. Exits with 0 only if
    every task succeeded, at least 85 % of the answers cite an expected topic, and no step
    that was completed ran again.
    """
    folder = home_folder(home)
    # JSON alone goes to standard output; what is told on the way goes beside it.
    telling = contextlib.redirect_stdout(sys.stderr if output is Output.JSON else sys.stdout)
    with (
        telling,
        _running_stack(
            folder, keep=keep, port_offset=port_offset, workers=workers, rabbitmq_url=rabbitmq_url
        ),
    ):
        report = run(_demo(connect(None, folder), folder, crash=crash))
    if output is Output.JSON:
        print_json(report.to_json())
    else:
        print_report(report, console())
    if report.faults():
        raise typer.Exit(ExitCode.FAILED)


@contextlib.contextmanager
def _running_stack(
    home: Path, *, keep: bool, port_offset: int | None, workers: int, rabbitmq_url: str | None
) -> Iterator[None]:
    """Starts the stack if it does not run; stops it then, unless it is to be kept."""
    try:
        state = read_state(home)
    except StateError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(ExitCode.CONFLICT) from error
    if state is not None and state.is_up():
        yield
        return
    stack.up(
        home=home, port_offset=port_offset, workers=workers, rabbitmq_url=rabbitmq_url, detach=True
    )
    try:
        yield
    finally:
        if not keep:
            stack.down(home=home)


async def _demo(connection: Connection, home: Path, *, crash: bool) -> Report:
    killer = Killer(home) if crash else None
    try:
        if killer is not None:
            killer.workers()
        async with connection as client:
            return await run_demo(
                client, board=make_board(console()), folder=home / "demo", killer=killer
            )
    except CrashError as error:
        raise CommandError(str(error), ExitCode.CONFLICT) from error
