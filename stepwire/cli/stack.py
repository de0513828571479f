"""`stepwire up`, `down`, `status`, `doctor`, `logs`: the local stack."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.api_keys import VARIABLE
from stepwire.cli.exits import ExitCode
from stepwire.cli.options import Output, OutputOption
from stepwire.stack.daemon import StackError, run_stack
from stepwire.stack.detached import start_detached, stop_stack
from stepwire.stack.doctor import Verdict, examine
from stepwire.stack.health import PartHealth, check_parts, supervisor_resident_bytes
from stepwire.stack.home import AlreadyRunningError, make_home, purge
from stepwire.stack.logs import COMBINED, log_path
from stepwire.stack.plan import StackOptions
from stepwire.stack.ports import PORT_OFFSET_VARIABLE
from stepwire.stack.readable import readable
from stepwire.stack.secrets import make_first_key
from stepwire.stack.state import (
    HOME_VARIABLE,
    Phase,
    StackState,
    StateError,
    default_home,
    read_state,
)
from stepwire.stack.tail import follow, last_lines
from stepwire.stack.view import StackView

MEBIBYTE = 1024 * 1024
out = Console()
err = Console(stderr=True)


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar=HOME_VARIABLE,
        help="Folder of data, logs and state. By default .stepwire in the current folder.",
    ),
]
PortOffset = Annotated[
    int | None,
    typer.Option(
        "--port-offset",
        envvar=PORT_OFFSET_VARIABLE,
        help="Move all ports by this much; remembered in the home folder.",
    ),
]
Workers = Annotated[
    int,
    typer.Option("--workers", envvar="STEPWIRE_WORKERS", min=1, help="Worker processes."),
]
RabbitmqUrl = Annotated[
    str | None,
    typer.Option(
        "--rabbitmq-url",
        envvar="STEPWIRE_RABBITMQ_URL",
        help="RabbitMQ to use instead of a node of the stack's own.",
    ),
]


Auth = Annotated[
    bool | None,
    typer.Option(
        "--auth/--no-auth",
        envvar="STEPWIRE_AUTH",
        help="Whether the gateway asks for keys; remembered in the home folder. The first time, "
        "it makes one that allows everything, and shows it once.",
        show_default=False,
    ),
]


def up(
    *,
    home: Home = None,
    port_offset: PortOffset = None,
    workers: Workers = 2,
    rabbitmq_url: RabbitmqUrl = None,
    auth: Auth = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready; leave it running.")
    ] = False,
) -> None:
    """Start the whole system on this machine and keep it running until Ctrl-C."""
    with _faults_told():
        options = _options(home, port_offset, workers=workers, rabbitmq_url=rabbitmq_url, auth=auth)
        was_up = (last := read_state(options.home)) is not None and last.is_running()
        if options.auth and not was_up:
            make_home(options.home)
            _tell_first_key(make_first_key(options.home))
        with StackView(out) as view:
            if detach:
                _tell_ready(start_detached(options, on_change=view))
            else:
                run_stack(options, on_change=lambda state: _follow(view, state))
    if was_up:
        out.print(
            "It was up already: options and settings of this call are not taken; "
            "`stepwire down` first.",
            style="yellow",
            highlight=False,
            soft_wrap=not out.is_terminal,
        )


def down(
    *,
    home: Home = None,
    purge_data: Annotated[
        bool, typer.Option("--purge", help="Remove all data, logs and state as well.")
    ] = False,
) -> None:
    """Stop the system and wait until it has ended."""
    folder = _home(home)
    with _faults_told():
        stopped = stop_stack(folder)
        told = "Stopped." if stopped else f"No stack runs in {folder}."
        out.print(told, highlight=False, soft_wrap=True)
        if purge_data:
            purge(folder)
            out.print(f"Removed {folder} and all data.", highlight=False, soft_wrap=True)


def status(
    *,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show every part: its process, ports, health, restarts and memory.

    Exit code 0 if all parts are healthy, 1 if one is not, 3 if no stack runs.
    """
    folder = _home(home)
    with _faults_told():
        state = read_state(folder)
    if state is None or not state.is_running():
        _tell_none(folder, state, output)
        raise typer.Exit(ExitCode.NOT_FOUND)
    parts = asyncio.run(check_parts(folder, state))
    if output is Output.JSON:
        _print_json(_as_json(state, parts))
    else:
        out.print(_as_table(state, parts))
    if not all(part.healthy for part in parts):
        raise typer.Exit(ExitCode.FAILED)


def doctor(*, home: Home = None, port_offset: PortOffset = None) -> None:
    """Check whether this machine can run the system, and say what to do if not.

    Exit code 1 if something is in the way.
    """
    with _faults_told():
        options = _options(home, port_offset, workers=2, rabbitmq_url=None, auth=None)
    marks = {
        Verdict.GOOD: Text("ok", style="green"),
        Verdict.WARNING: Text("warning", style="yellow"),
        Verdict.FAULT: Text("fault", style="bold red"),
    }
    faults = 0
    for finding in examine(options):
        table = Table.grid(padding=(0, 2))
        table.add_column(width=10, style="bold")
        table.add_column(width=7)
        table.add_column(overflow="fold")
        table.add_row(finding.subject, marks[finding.verdict], Text(finding.detail))
        if finding.fix:
            table.add_row("", "", Text(f"-> {finding.fix}"))
        out.print(table, highlight=False)
        faults += finding.verdict is Verdict.FAULT
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def logs(
    part: Annotated[
        str,
        typer.Argument(
            metavar="PART", help="A part's name, as `status` shows it; all parts by default."
        ),
    ] = COMBINED,
    *,
    home: Home = None,
    follow_on: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what is added.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many to begin with.")
    ] = 100,
    output: Annotated[
        Output,
        typer.Option("--output", "-o", help="Lines as text, or as the parts wrote them: JSON."),
    ] = Output.TEXT,
) -> None:
    """Print the log of a part, or of all parts together."""
    path = log_path(_home(home), part)
    if not path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.log"))
        told = f"there is no log of {part!r}; there are: {', '.join(known) or 'none'}"
        _fail(told, ExitCode.NOT_FOUND)
    with _faults_told():
        for line in chain(last_lines(path, lines), follow(path) if follow_on else ()):
            typer.echo(line if output is Output.JSON else readable(line))


@contextmanager
def _faults_told() -> Iterator[None]:
    """Turns what can go wrong into a message and an exit code."""
    try:
        yield
    except AlreadyRunningError as error:
        _fail(str(error), ExitCode.CONFLICT)
    except (StackError, StateError) as error:
        _fail(str(error))
    except KeyboardInterrupt as error:
        raise typer.Exit(ExitCode.INTERRUPTED) from error


def _fail(message: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    told = Text(f"error: {message}", style="red")
    err.print(told, highlight=False, soft_wrap=not err.is_terminal)
    raise typer.Exit(code)


def _home(home: Path | None) -> Path:
    return home.absolute() if home is not None else default_home()


def _options(
    home: Path | None,
    port_offset: int | None,
    *,
    workers: int,
    rabbitmq_url: str | None,
    auth: bool | None,
) -> StackOptions:
    """Returns the options; port offset and keys are the last ones where they are not given."""
    folder = _home(home)
    last = read_state(folder)
    remembered = last.port_offset if last is not None else 0
    had_keys = last is not None and last.auth
    return StackOptions(
        home=folder,
        port_offset=remembered if port_offset is None else port_offset,
        workers=workers,
        rabbitmq_url=rabbitmq_url or None,
        auth=had_keys if auth is None else auth,
    )


def _follow(view: StackView, state: StackState) -> None:
    """Shows a state; says once, in a foreground `up`, that all is ready."""
    was = view.phase
    view(state)
    if state.phase is Phase.READY and was is not Phase.READY:
        _tell_ready(state)
        out.print("Ctrl-C stops it.", highlight=False)


def _tell_ready(state: StackState) -> None:
    if state.broker == "in-process":
        out.print(
            "RabbitMQ is not installed: the in-process broker is used, with one worker inside "
            "executor_svc (`stepwire doctor` says more).",
            style="yellow",
            highlight=False,
        )
    out.print(f"Stepwire is up: gateway at http://{state.gateway}", highlight=False)


def _tell_first_key(text: str | None) -> None:
    if text is not None:
        out.print(f"The first key, shown only now: {text}", highlight=False, soft_wrap=True)
        out.print(f"Commands and clients take it from {VARIABLE}.", highlight=False)


def _tell_none(home: Path, state: StackState | None, output: Output) -> None:
    killed = state is not None and state.was_killed()
    phase = "killed" if killed else state.phase.value if state is not None else None
    failure = state.failure if state is not None else ""
    if output is Output.JSON:
        _print_json({"phase": phase, "failure": failure, "parts": []})
        return
    out.print(f"No stack runs in {home}.", highlight=False, soft_wrap=True)
    if killed:
        out.print("The last one's supervisor was killed: `stepwire up` cleans up and starts anew.")
    if failure:
        out.print(Text(f"The last one failed: {failure}"), soft_wrap=True)


def _as_json(state: StackState, parts: list[PartHealth]) -> dict[str, Any]:
    return {
        "phase": state.phase,
        "gateway": state.gateway,
        "broker": state.broker,
        "port_offset": state.port_offset,
        "auth": state.auth,
        "supervisor": {
            "pid": state.supervisor.pid,
            "resident_bytes": supervisor_resident_bytes(state),
        },
        "parts": [
            {
                "name": health.part.name,
                "phase": health.part.phase,
                "healthy": health.healthy,
                "pid": health.part.pid,
                "ports": health.part.ports,
                "restarts": health.part.restarts,
                "started_seconds": health.part.started_seconds,
                "resident_bytes": health.resident_bytes,
                "detail": health.part.detail,
            }
            for health in parts
        ],
    }


def _as_table(state: StackState, parts: list[PartHealth]) -> Table:
    own = supervisor_resident_bytes(state)
    total = own + sum(health.resident_bytes for health in parts)
    keys = "   keys on" if state.auth else ""
    table = Table(
        title=f"gateway http://{state.gateway}   broker {state.broker}   {state.phase}{keys}",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for heading in ("part", "phase", "health"):
        table.add_column(heading)
    for heading in ("pid", "ports", "restarts", "memory"):
        table.add_column(heading, justify="right")
    for health in parts:
        part = health.part
        table.add_row(
            part.name,
            part.phase.value,
            Text("ok", style="green") if health.healthy else Text("no answer", style="bold red"),
            str(part.pid or ""),
            " ".join(str(port) for port in part.ports.values()),
            str(part.restarts or ""),
            _mebibytes(health.resident_bytes),
        )
    table.add_row("supervisor", "", "", str(state.supervisor.pid), "", "", _mebibytes(own))
    table.add_row("in all", "", "", "", "", "", _mebibytes(total), style="bold")
    return table


def _mebibytes(number: int) -> str:
    return f"{number / MEBIBYTE:.0f} MiB"


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2))
