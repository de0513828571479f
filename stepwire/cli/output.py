"""Prints results, for people or as JSON."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task, TaskState
from stepwire.sdk.values import from_payload

_PIPE_COLUMNS = 1000
ID_COLUMNS = 36
_SECOND = 1
_LONG = 100
_LONGEST_WORD = 200
_SHOWN_OF_WORD = 40

STATE_STYLES = {
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "RUNNING": "cyan",
    "WAITING": "blue",
    "PAUSED": "magenta",
    "SKIPPED": "dim",
    "DEPRECATED": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """Returns a console that prints what it is given, without guessing at colours.

    Files and pipes are wide: what a program reads must not be cut.
    """
    screen = Console(stderr=stderr, highlight=False, markup=False)
    if not screen.is_terminal:
        screen.width = _PIPE_COLUMNS
    return screen


def tell(screen: Console, text: str | Text, *, style: str = "") -> None:
    """Prints a paragraph: cut between words on a terminal, one line in files and pipes."""
    screen.print(text, style=style or None, soft_wrap=not screen.is_terminal)


def print_json(data: Any) -> None:
    """Prints a JSON value, indented."""
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2, default=_plain).decode())


def print_json_lines(rows: Iterable[Any]) -> None:
    """Prints JSON values, one on a line, each as soon as it comes."""
    for row in rows:
        typer.echo(orjson.dumps(row, default=_plain).decode())


def to_json(message: Message) -> dict[str, Any]:
    """Returns a message as JSON, by the proto's field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def task_to_json(task: Task) -> dict[str, Any]:
    """Returns a task as JSON, with its payloads in their natural form."""
    data = to_json(task)
    for name in ("input", "output"):
        if task.HasField(name):
            data[name] = from_payload(getattr(task, name))
    for step, run in zip(data.get("steps", ()), task.steps, strict=False):
        if run.HasField("output"):
            step["output"] = from_payload(run.output)
    return data


def task_state(task: Task) -> str:
    """Returns a task's state as a word."""
    return TaskState.Name(task.state).removeprefix("TASK_STATE_")


def step_state(step: StepRun) -> str:
    """Returns a step's state as a word."""
    return StepState.Name(step.state).removeprefix("STEP_STATE_")


def styled(state: str) -> Text:
    """Returns a state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def moment(timestamp: Timestamp) -> str:
    """Returns a time as the local clock shows it."""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(start: Timestamp, end: Timestamp) -> str:
    """Returns the time between two times, in a unit that fits."""
    zero = datetime.fromtimestamp(0, tz=UTC)
    began, ended = start.ToDatetime(tzinfo=UTC), end.ToDatetime(tzinfo=UTC)
    return "" if zero in (began, ended) else duration((ended - began).total_seconds())


def duration(seconds: float) -> str:
    """Returns a span of time in a unit that fits."""
    if seconds < _SECOND:
        return f"{seconds * 1000:.1f} ms"
    if seconds < _LONG:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"


def shortened(text: str, characters: int) -> str:
    """Returns a text on one line, cut to a length."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def without_long_words(value: Any) -> Any:
    """Returns a JSON value in which long texts without a space, such as vectors, are cut."""
    if isinstance(value, dict):
        return {key: without_long_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_long_words(item) for item in value]
    if isinstance(value, str) and len(value) > _LONGEST_WORD and " " not in value:
        return f"{value[:_SHOWN_OF_WORD]}… ({len(value)} characters)"
    return value


def _plain(value: Any) -> Any:
    """Writes bytes as text, for output that is not JSON itself."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError(f"{type(value).__name__} is not a JSON value")
