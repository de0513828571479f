"""What `stepwire tasks` does to tasks: cancels, retries, pauses, resumes, forks, signals them."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from stepwire.api.executor.v1.executor_service_pb2 import TaskAction
from stepwire.api.executor.v1.task_pb2 import Task
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import ExitCode, run
from stepwire.cli.files import load_value
from stepwire.cli.filters import (
    BeforeOption,
    FromOption,
    LabelOption,
    ReasonOption,
    StateOption,
    WorkflowOption,
    conditions,
)
from stepwire.cli.options import (
    GatewayOption,
    HomeOption,
    LabelsOption,
    Output,
    OutputOption,
    RequestIdOption,
    TaskArgument,
    labels_of,
)
from stepwire.cli.output import console, print_json, styled, task_state, task_to_json
from stepwire.sdk.client import Client
from stepwire.sdk.requests import Conditions

_BULK_PAGE = 1000


class Action(StrEnum):
    """What can be done to many tasks."""

    CANCEL = "cancel"
    RETRY = "retry"
    FORK = "fork"
    PAUSE = "pause"
    RESUME = "resume"


def cancel(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Cancel a task for good."""
    run(_do(connect(gateway, home), lambda client: client.cancel(task_id), output))


def retry(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Continue a failed task after its last completed steps."""
    run(_do(connect(gateway, home), lambda client: client.retry(task_id), output))


def pause(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Hold a task: steps that run go on, nothing new starts."""
    run(_do(connect(gateway, home), lambda client: client.pause(task_id), output))


def resume(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a paused task go on."""
    run(_do(connect(gateway, home), lambda client: client.resume(task_id), output))


def fork(
    task_id: TaskArgument,
    *,
    from_step: Annotated[str, typer.Option("--from", metavar="STEP", help="The step to run from.")],
    label: LabelsOption = None,
    request_id: RequestIdOption = None,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a new task that keeps the results before STEP and runs from there."""
    labels = labels_of(label)
    run(
        _do(
            connect(gateway, home),
            lambda client: client.fork(
                task_id, from_step, labels=labels, request_id=request_id or ""
            ),
            output,
        )
    )


def signal(
    task_id: TaskArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal.")],
    *,
    value: Annotated[
        str, typer.Option(metavar="YAML", help="The signal's payload, in YAML or JSON.")
    ] = "null",
    request_id: RequestIdOption = None,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send a signal to a task."""

    async def verb(client: Client) -> Task:
        payload = load_value(value, "--value")
        return await client.signal(task_id, name, payload, request_id=request_id or "")

    run(_do(connect(gateway, home), verb, output))


def bulk(
    action: Annotated[Action, typer.Argument(help="What to do with the tasks.")],
    *,
    state: StateOption = None,
    label: LabelOption = None,
    workflow: WorkflowOption = None,
    reason: ReasonOption = None,
    created_from: FromOption = None,
    created_before: BeforeOption = None,
    from_step: Annotated[
        str, typer.Option(metavar="STEP", help="For fork: the step to run from.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the tasks; change nothing.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Do the same with all tasks that the options select; at least one is needed.

    Prints their ids; for fork, those of the new tasks. Exits with 5 if some had changed
    meanwhile, so that it was not done.
    """
    selected = conditions(
        state=state,
        label=label,
        workflow=workflow,
        reason=reason,
        created_from=created_from,
        created_before=created_before,
    )
    run(
        _bulk(
            connect(gateway, home),
            action,
            selected,
            from_step=from_step,
            dry_run=dry_run,
            output=output,
        )
    )


async def _do(
    connection: Connection, verb: Callable[[Client], Awaitable[Task]], output: Output
) -> None:
    async with connection as client:
        task = await verb(client)
    if output is Output.JSON:
        print_json(task_to_json(task))
    else:
        console().print(Text.assemble(task.task_id, " ", styled(task_state(task))))


async def _bulk(
    connection: Connection,
    action: Action,
    selected: Conditions,
    *,
    from_step: str,
    dry_run: bool,
    output: Output,
) -> None:
    done: list[str] = []
    refused: dict[str, str] = {}
    async with connection as client:
        async for page in client.bulk(
            TaskAction.Value(f"TASK_ACTION_{action.name}"),
            from_step=from_step,
            validate_only=dry_run,
            page_size=_BULK_PAGE,
            **selected,
        ):
            done += page.task_ids
            refused |= dict(page.refused)
            if output is Output.TEXT:
                for task_id in page.task_ids:
                    typer.echo(task_id)
    if output is Output.JSON:
        print_json({"task_ids": done, "refused": refused})
    else:
        for task_id, why in refused.items():
            typer.echo(f"{task_id}: {why}", err=True)
    if refused:
        raise typer.Exit(ExitCode.CONFLICT)
