"""`stepwire submit`: creates a task from a file."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from google.protobuf.json_format import ParseDict, ParseError

from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import print_json, task_state, task_to_json
from stepwire.cli.watch import follow_task
from stepwire.sdk.client import NewTask

_KEYS = {"graph", "input", "labels", "request_id"}


def submit(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="YAML or JSON; `-` reads standard input.")
    ],
    *,
    input_text: Annotated[
        str | None,
        typer.Option("--input", metavar="YAML", help="The task's input, instead of the file's."),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Idempotency key, instead of the file's.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow the task to its end.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create a task from FILE.

    The file holds `graph`, and if wanted `input`, `labels` and `request_id`; the graph is
    written as in the API's JSON:

    graph: {steps: [{name: total, transform: {expression: "input.a + input.b"}}]}
    input: {a: 1, b: 2}
    """
    run(
        _submit(
            file,
            input_text=input_text,
            request_id=request_id,
            watch=watch,
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
    connection: Connection,
    output: Output,
) -> None:
    new = read_task(_read(file), "standard input" if file == "-" else file)
    value = new.input if input_text is None else _load(input_text, "--input")
    async with connection as client:
        task = await client.create(
            new.graph, value, request_id=request_id or new.request_id, labels=new.labels
        )
        if not watch:
            if output is Output.JSON:
                print_json(task_to_json(task))
            else:
                typer.echo(f"{task.task_id} {task_state(task)}")
            return
        if output is Output.TEXT:
            typer.echo(task.task_id)
        await follow_task(client, task.task_id, after=0, output=output)


def read_task(text: str, source: str) -> NewTask:
    """Reads a task from YAML or JSON text.

    Args:
        text: The text.
        source: Where it is from, for error messages.

    Raises:
        CommandError: It does not describe a task; the message says where.
    """
    data = _load(text, source)
    if not isinstance(data, dict) or not isinstance(data.get("graph"), dict):
        raise CommandError(f"{source}: expected an object with the key `graph`")
    if unknown := sorted(map(str, set(data) - _KEYS)):
        raise CommandError(f"{source}: unknown keys {', '.join(unknown)}; known: {sorted(_KEYS)}")
    try:
        graph = ParseDict(data["graph"], Graph())
    except ParseError as error:
        raise CommandError(f"{source}: graph: {error}") from None
    labels = data.get("labels") or {}
    if not isinstance(labels, dict):
        raise CommandError(f"{source}: labels: expected an object of texts")
    return NewTask(
        graph,
        data.get("input"),
        request_id=str(data.get("request_id") or ""),
        labels={str(key): str(value) for key, value in labels.items()},
    )


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None


def _load(text: str, source: str) -> Any:
    try:
        # Every JSON text is YAML as well.
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CommandError(f"{source} is neither YAML nor JSON: {error}") from None
