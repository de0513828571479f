"""`stepwire submit`: creates a task from a file."""

from dataclasses import replace
from datetime import UTC
from typing import Annotated

import typer

from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.task_pb2 import Task
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, run
from stepwire.cli.files import (
    graph_of,
    load_object,
    load_value,
    read_text,
    source_of,
    texts_of,
    to_message,
)
from stepwire.cli.options import (
    GatewayOption,
    HomeOption,
    InputOption,
    Output,
    OutputOption,
    RequestIdOption,
    WatchOption,
    split_workflow,
)
from stepwire.cli.output import print_json, task_state, task_to_json
from stepwire.cli.watch import follow_task
from stepwire.sdk.client import Client
from stepwire.sdk.graph import workflow
from stepwire.sdk.requests import NewTask

_KEYS = {
    *("graph", "workflow", "input", "labels", "request_id"),
    *("priority", "timeout", "start_after"),
}
# Fields that are written as in the API's JSON.
_FIELDS = ("priority", "timeout", "start_after")

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="YAML or JSON; `-` reads standard input.")
]


def submit(
    file: FileArgument,
    *,
    input_text: InputOption = None,
    request_id: RequestIdOption = None,
    watch: WatchOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the request; create nothing.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create a task from FILE.

    The file holds `graph` or `workflow` (NAME or NAME@VERSION), and if wanted `input`,
    `labels`, `priority`, `timeout`, `start_after` and `request_id`; the graph is written as
    in the API's JSON:

        graph: {steps: [{name: sum, transform: {expression: "input.a + input.b"}}]}
        input: {a: 1, b: 2}
    """
    run(
        _submit(
            file,
            input_text=input_text,
            request_id=request_id,
            watch=watch,
            check=check,
            connection=connect(gateway, home),
            output=output,
        )
    )


async def _submit(
    file: str,
    *,
    input_text: str | None,
    request_id: str | None,
    watch: bool,
    check: bool,
    connection: Connection,
    output: Output,
) -> None:
    new = read_task(read_text(file), source_of(file))
    if input_text is not None:
        new = replace(new, input=load_value(input_text, "--input"))
    if request_id:
        new = replace(new, request_id=request_id)
    async with connection as client:
        await create_task(client, new, watch=watch, check=check, output=output)


async def create_task(
    client: Client, new: NewTask, *, watch: bool, output: Output, check: bool = False
) -> None:
    """Creates a task, tells it, and follows it to its end if that is wanted.

    Raises:
        typer.Exit: With FAILED, if a task that was followed did not succeed.
    """
    task = await client.submit(new, validate_only=check)
    if check:
        _tell_checked(task, output)
    elif not watch:
        if output is Output.JSON:
            print_json(task_to_json(task))
        else:
            typer.echo(f"{task.task_id} {task_state(task)}")
    else:
        if output is Output.TEXT:
            typer.echo(task.task_id)
        await follow_task(client, task.task_id, after=0, output=output)


def _tell_checked(task: Task, output: Output) -> None:
    if output is Output.JSON:
        print_json(task_to_json(task))
    else:
        typer.echo("The task would be accepted.")


def read_task(text: str, source: str) -> NewTask:
    """Reads a task from YAML or JSON text.

    Args:
        text: The text.
        source: Where it is from, for error messages.

    Raises:
        CommandError: It does not describe a task; the message says where.
    """
    data = load_object(text, source, keys=_KEYS)
    if ("graph" in data) == ("workflow" in data):
        raise CommandError(f"{source}: expected one of the keys `graph` and `workflow`")
    named = "workflow" in data
    fields = {name: data[name] for name in _FIELDS if name in data}
    request = to_message(fields, CreateTaskRequest(), source=source)
    timed = request.HasField("start_after")
    return NewTask(
        workflow(*split_workflow(str(data["workflow"])))
        if named
        else graph_of(data, source=source),
        data.get("input"),
        request_id=str(data.get("request_id") or ""),
        labels=texts_of(data.get("labels"), source=f"{source}: labels"),
        priority=request.priority,
        timeout=request.timeout.ToTimedelta() if request.HasField("timeout") else None,
        start_after=request.start_after.ToDatetime(UTC) if timed else None,
    )
