"""`stepwire watch`: follows a task by its events."""

from typing import Annotated

import typer
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import TaskEvent, TaskEventType, TaskState
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import ExitCode, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, TaskArgument
from stepwire.cli.output import (
    STATE_STYLES,
    console,
    moment,
    print_json,
    print_json_lines,
    task_state,
    to_json,
)
from stepwire.payload import struct_to_json
from stepwire.sdk.client import Client
from stepwire.sdk.values import from_payload

_STYLES = {
    **STATE_STYLES,
    "LOST": "magenta",
    "RETRYING": "yellow",
    "RETRIED": "yellow",
    "STARTED": "cyan",
    "RESUMED": "cyan",
    "SIGNALLED": "cyan",
    "COMPENSATING": "yellow",
}


def watch(
    task_id: TaskArgument,
    *,
    after: Annotated[int, typer.Option(help="Show only events behind this cursor.")] = 0,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a task's events, past ones first, until it is final.

    Exits with 0 if the task SUCCEEDED, with 1 if it FAILED or was CANCELLED. JSON is one
    event on a line.
    """
    run(_watch(connect(gateway, home), task_id, after=after, output=output))


async def _watch(connection: Connection, task_id: str, *, after: int, output: Output) -> None:
    async with connection as client:
        await follow_task(client, task_id, after=after, output=output)


async def follow_task(client: Client, task_id: str, *, after: int, output: Output) -> None:
    """Prints a task's events to its end, and its output.

    Raises:
        typer.Exit: With FAILED if the task did not succeed.
    """
    screen = console()
    async for event in client.watch(task_id, after_cursor=after):
        if output is Output.JSON:
            print_json_lines([to_json(event)])
        else:
            screen.print(describe_event(event), soft_wrap=True)
    task = await client.get(task_id)
    if task.state != TaskState.TASK_STATE_SUCCEEDED:
        if output is Output.TEXT and task.HasField("failure"):
            screen.print(
                f"{task_state(task)}: {task.failure.message}", style="bold red", soft_wrap=True
            )
        raise typer.Exit(ExitCode.FAILED)
    if output is Output.TEXT:
        print_json(from_payload(task.output))


def describe_event(event: TaskEvent) -> Text:
    """Returns an event as a line for people."""
    what, _, happened = (
        TaskEventType.Name(event.type).removeprefix("TASK_EVENT_TYPE_").partition("_")
    )
    line = Text(f"{moment(event.time)}  {event.cursor:>4}  ")
    name = f"step {event.step_id}" if event.step_id else what.lower()
    line.append(f"{name:<24} ")
    line.append(happened.lower(), style=_STYLES.get(happened, ""))
    if event.attempt > 1:
        line.append(f" (attempt {event.attempt})")
    if event.HasField("detail"):
        detail = struct_to_json(event.detail)
        line.append(f" ({', '.join(f'{name} {value}' for name, value in detail.items())})")
    if event.HasField("failure"):
        line.append(f" {event.failure.reason}: {event.failure.message}")
    return line
