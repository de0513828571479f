"""`stepwire trace`: draws the trace of a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from stepwire.cli.connect import Connection, connect, home_folder
from stepwire.cli.exits import CommandError, ExitCode, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, TaskArgument
from stepwire.cli.output import console, duration, print_json
from stepwire.cli.waterfall import Row, bar, indent, lay_out, of_task
from stepwire.telemetry.names import ERROR_TYPE, STEP_ID
from stepwire.telemetry.spans import Span, read_trace

_SERVICE_CELLS = 9
_DURATION_CELLS = 9
_NARROWEST_BAR = 16
# In files and pipes, which have no width of their own that a picture could fill.
_COLUMNS_ELSEWHERE = 80
_NAME_SHARE = 0.42
_STYLES = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_magenta")


def trace(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Draw the trace of a task: what happened where, when, and for how long.

    The spans are those that the local stack keeps in its home folder. Services send them
    every few seconds, so that the last ones of a task may be missing for a moment.
    """
    run(_trace(connect(gateway, home), task_id, home_folder(home) / "spans", output))


async def _trace(connection: Connection, task_id: str, folder: Path, output: Output) -> None:
    async with connection as client:
        task = await client.get(task_id)
    if not task.trace_id:
        raise CommandError(f"task {task_id} was created without a trace", ExitCode.NOT_FOUND)
    spans = of_task(read_trace(folder, task.trace_id), task_id)
    if not spans:
        raise CommandError(
            f"no span of trace {task.trace_id} is kept in {folder}: it may be a few seconds too "
            "early, or too late, or the task may have run elsewhere",
            ExitCode.NOT_FOUND,
        )
    if output is Output.JSON:
        print_json({"task_id": task_id, "trace_id": task.trace_id, "spans": _to_json(spans)})
    else:
        draw(spans, trace_id=task.trace_id, screen=console())


def draw(spans: Sequence[Span], *, trace_id: str, screen: Console) -> None:
    """Draws spans as a waterfall, as wide as the screen if it is a terminal.

    Args:
        spans: The spans of a trace, at least one.
        trace_id: The trace.
        screen: Where to draw.
    """
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    services = sorted({span.service for span in spans})
    styles = {service: _STYLES[n % len(_STYLES)] for n, service in enumerate(services)}
    screen.print(
        f"trace {trace_id}\n{_counted(len(spans), 'span')} of {_counted(len(services), 'service')} "
        f"in {duration((end - start) / 1e9)}"
    )
    ascii_only = not screen.encoding.lower().startswith("utf")
    columns = screen.width if screen.is_terminal else _COLUMNS_ELSEWHERE
    name_cells = int(columns * _NAME_SHARE)
    bar_cells = max(_NARROWEST_BAR, columns - name_cells - _SERVICE_CELLS - _DURATION_CELLS - 4)
    rows = lay_out(spans)
    for row in rows:
        span = row.span
        line = Text(no_wrap=True, overflow="crop")
        line.append(_fit(span.service, _SERVICE_CELLS), style=styles[span.service])
        line.append(" ")
        line.append(
            _fit(_name(row, ascii_only=ascii_only), name_cells), style="red" if _failed(row) else ""
        )
        line.append(f" {duration(span.seconds):>{_DURATION_CELLS}} ")
        first, cells = bar(span, start=start, end=end, width=bar_cells)
        line.append(" " * first + ("#" if ascii_only else "━") * cells, style=styles[span.service])
        screen.print(line)
    for row in rows:
        if _failed(row):
            screen.print(
                f"! {row.span.service} {row.span.name}: {_why(row.span)}",
                style="red",
                soft_wrap=True,
            )
    if any(row.is_orphan for row in rows):
        screen.print("? the span above this one is not kept", style="dim")


def _name(row: Row, *, ascii_only: bool) -> str:
    marks = ("! " if _failed(row) else "") + ("? " if row.is_orphan else "")
    return indent(row, ascii_only=ascii_only) + marks + _title(row.span)


def _title(span: Span) -> str:
    """Returns a span's name: of a call, the method; of a step, the step with its item."""
    if step_id := span.attributes.get(STEP_ID):
        return f"step {step_id}"
    return span.name.rpartition("/")[2]


def _failed(row: Row) -> bool:
    return row.span.status == "ERROR"


def _why(span: Span) -> str:
    code = span.attributes.get(ERROR_TYPE, "")
    return span.message or str(code) or "failed"


def _fit(text: str, cells: int) -> str:
    return f"{text:<{cells}}" if len(text) <= cells else text[: cells - 1] + "~"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _to_json(spans: Sequence[Span]) -> list[dict[str, Any]]:
    start = min(span.start for span in spans)
    return [
        {
            "span_id": row.span.span_id,
            "parent_id": row.span.parent_id,
            "depth": len(row.ancestry),
            "name": row.span.name,
            "service": row.span.service,
            "kind": row.span.kind,
            "start_ms": round((row.span.start - start) / 1e6, 3),
            "duration_ms": round(row.span.seconds * 1e3, 3),
            "status": row.span.status,
            "message": row.span.message,
            "attributes": row.span.attributes,
        }
        for row in lay_out(spans)
    ]
