"""`stepwire workflows`: registers, shows and retires workflows, and runs them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.workflow_service_pb2 import (
    RegisterWorkflowRequest,
    ValidateGraphResponse,
    WorkflowVersion,
    WorkflowVersionState,
)
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, ExitCode, run
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
    LabelsOption,
    Output,
    OutputOption,
    RequestIdOption,
    WatchOption,
    labels_of,
    split_workflow,
)
from stepwire.cli.output import console, moment, print_json, styled, tell, to_json
from stepwire.cli.submit import FileArgument, create_task
from stepwire.sdk.client import Client
from stepwire.sdk.graph import workflow
from stepwire.sdk.requests import NewTask

_KEYS = {"name", "version", "description", "graph", "labels", "priority"}

workflows = typer.Typer(
    help="Register, show and retire workflows, and run them.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the workflow.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="Version of it.")]
RefArgument = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION]", help="The workflow; the newest version by default."),
]


@workflows.command()
def register(
    file: FileArgument,
    *,
    version: Annotated[str | None, typer.Option(help="The version, instead of the file's.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the request; register nothing.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Register a version of the workflow that FILE describes.

    The file holds `name` and `graph`, and if wanted `version`, `description`, and the
    `labels` and `priority` of its tasks. Without a version the next number is taken, unless
    the newest version is the same.
    """

    async def verb(client: Client) -> WorkflowVersion:
        request = read_workflow(read_text(file), source_of(file))
        return await client.workflows.register(
            request.name,
            request.graph,
            version=request.version if version is None else version,
            description=request.description,
            labels=request.defaults.labels,
            priority=request.defaults.priority,
            validate_only=check,
        )

    run(_show(connect(gateway, home), verb, output))


@workflows.command("list")
def list_workflows(
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the workflows, each by its newest version."""
    run(_list(connect(gateway, home), lambda client: client.workflows.find(), output))


@workflows.command()
def versions(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List a workflow's versions, the last first."""
    run(_list(connect(gateway, home), lambda client: client.workflows.versions(name), output))


@workflows.command()
def get(
    ref: RefArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a version with its graph."""
    name, version = split_workflow(ref)
    run(_show(connect(gateway, home), lambda client: client.workflows.get(name, version), output))


@workflows.command()
def deprecate(
    name: NameArgument,
    version: VersionArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a version take no new tasks; those that run go on."""
    connection = connect(gateway, home)
    run(_show(connection, lambda client: client.workflows.deprecate(name, version), output))


@workflows.command()
def activate(
    name: NameArgument,
    version: VersionArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a deprecated version take new tasks again."""
    connection = connect(gateway, home)
    run(_show(connection, lambda client: client.workflows.activate(name, version), output))


@workflows.command()
def delete(
    name: NameArgument,
    version: VersionArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Delete a version that was never used."""
    run(_delete(connect(gateway, home), name, version, output))


@workflows.command()
def validate(
    file: FileArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check the graph in FILE, and say all that is wrong with it.

    FILE is one for `register` or for `stepwire submit`. Exits with 2 if something is wrong.
    """
    run(_validate(connect(gateway, home), file, output))


@workflows.command("run")
def run_workflow(
    ref: RefArgument,
    *,
    input_text: InputOption = None,
    label: LabelsOption = None,
    priority: Annotated[
        int, typer.Option(min=0, max=9, help="1 (goes first) to 9; 0: the workflow's own, or 5.")
    ] = 0,
    request_id: RequestIdOption = None,
    watch: WatchOption = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create a task that runs a workflow."""
    run(
        _run(
            connect(gateway, home),
            NewTask(
                workflow(*split_workflow(ref)),
                request_id=request_id or "",
                labels=labels_of(label),
                priority=priority,
            ),
            input_text or "null",
            watch=watch,
            output=output,
        )
    )


def read_workflow(text: str, source: str) -> RegisterWorkflowRequest:
    """Reads a workflow from YAML or JSON text.

    Args:
        text: The text.
        source: Where it is from, for error messages.

    Raises:
        CommandError: It does not describe a workflow; the message says where.
    """
    data = load_object(text, source, keys=_KEYS)
    if "name" not in data:
        raise CommandError(f"{source}: the key `name` is missing")
    request = RegisterWorkflowRequest(
        name=str(data["name"]),
        # A version such as 2 or 2026-11-21 is a number or a date to YAML.
        version=str(data.get("version", "")),
        graph=graph_of(data, source=source),
        description=str(data.get("description") or ""),
    )
    defaults = {"labels": texts_of(data.get("labels"), source=f"{source}: labels")}
    if "priority" in data:
        defaults["priority"] = data["priority"]
    to_message(defaults, request.defaults, source=source)
    return request


async def _show(
    connection: Connection,
    verb: Callable[[Client], Awaitable[WorkflowVersion]],
    output: Output,
) -> None:
    async with connection as client:
        version = await verb(client)
    if output is Output.JSON:
        print_json(to_json(version))
        return
    screen = console()
    screen.print(Text.assemble(f"{version.name}@{version.version} ", styled(_state(version))))
    if version.description:
        tell(screen, version.description)
    for step in version.graph.steps:
        after = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
        screen.print(f"  {step.name} ({step.WhichOneof('kind')}){after}")


async def _list(
    connection: Connection,
    find: Callable[[Client], AsyncIterator[WorkflowVersion]],
    output: Output,
) -> None:
    async with connection as client:
        found = [version async for version in find(client)]
    if output is Output.JSON:
        print_json([to_json(version) for version in found])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("WORKFLOW", "VERSION", "STATE", "USED", "REGISTERED", "DESCRIPTION"):
        table.add_column(column, no_wrap=column != "DESCRIPTION")
    for version in found:
        table.add_row(
            version.name,
            version.version,
            styled(_state(version)),
            "yes" if version.HasField("first_use_time") else "no",
            moment(version.create_time),
            version.description,
        )
    console().print(table)


async def _delete(connection: Connection, name: str, version: str, output: Output) -> None:
    async with connection as client:
        await client.workflows.delete(name, version)
    if output is Output.JSON:
        print_json({"name": name, "version": version})
    else:
        typer.echo(f"{name}@{version} deleted")


async def _validate(connection: Connection, file: str, output: Output) -> None:
    data = load_value(read_text(file), source_of(file))
    graph = graph_of(data if isinstance(data, dict) else {}, source=source_of(file))
    async with connection as client:
        found = await client.workflows.validate(graph)
    if output is Output.JSON:
        print_json(to_json(found))
    else:
        _tell_findings(found)
    if found.problems:
        raise typer.Exit(ExitCode.REFUSED)


def _tell_findings(found: ValidateGraphResponse) -> None:
    for problem in found.problems:
        typer.echo(f"{problem.field}: {problem.description} [{problem.reason}]")
    if not found.problems:
        shape = found.shape
        typer.echo(f"{shape.steps} steps; longest chain: {' -> '.join(shape.longest_chain)}")


async def _run(
    connection: Connection, new: NewTask, input_text: str, *, watch: bool, output: Output
) -> None:
    new = replace(new, input=load_value(input_text, "--input"))
    async with connection as client:
        await create_task(client, new, watch=watch, output=output)


def _state(version: WorkflowVersion) -> str:
    return WorkflowVersionState.Name(version.state).removeprefix("WORKFLOW_VERSION_STATE_")
