"""`stepwire tasks`: lists, shows, cancels and retries tasks."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import Task, TaskState
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, TaskArgument
from stepwire.cli.output import (
    STATE_STYLES,
    console,
    moment,
    print_json,
    span,
    step_state,
    task_state,
    task_to_json,
    without_long_words,
)
from stepwire.sdk.values import from_payload

tasks = typer.Typer(help="List, show, cancel and retry tasks.", no_args_is_help=True)


@tasks.command("list")
def list_tasks(
    *,
    state: Annotated[
        str | None, typer.Option(help="Only tasks in this state, e.g. FAILED.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only tasks with this label; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most tasks to show.")] = 20,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List tasks, newest first."""
    run(
        _list(
            connect(gateway, home),
            state=_state(state),
            labels=_labels(label or []),
            limit=limit,
            output=output,
        )
    )


@tasks.command("get")
def get_task(
    task_id: TaskArgument,
    *,
    outputs: Annotated[
        bool,
        typer.Option(
            "--outputs", help="Show the steps' outputs; base64 is cut, -o json has it whole."
        ),
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a task and its steps."""
    run(_get(connect(gateway, home), task_id, outputs=outputs, output=output))


@tasks.command("cancel")
def cancel_task(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Cancel a task for good."""
    run(_cancel(connect(gateway, home), task_id, output))


@tasks.command("retry")
def retry_task(
    task_id: TaskArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Continue a failed task after its last completed steps."""
    run(_retry(connect(gateway, home), task_id, output))


async def _list(
    connection: Connection,
    *,
    state: "TaskState.ValueType",
    labels: dict[str, str],
    limit: int,
    output: Output,
) -> None:
    found: list[Task] = []
    async with connection as client:
        async for task in client.find(state=state, labels=labels, page_size=min(limit, 1000)):
            found.append(task)
            if len(found) == limit:
                break
    if output is Output.JSON:
        print_json([task_to_json(task) for task in found])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("TASK", "STATE", "CREATED", "TOOK", "LABELS"):
        table.add_column(column, no_wrap=column != "LABELS")
    for task in found:
        table.add_row(
            task.task_id,
            _styled(task_state(task)),
            moment(task.create_time),
            span(task.start_time, task.end_time),
            " ".join(f"{key}={value}" for key, value in sorted(task.labels.items())),
        )
    console().print(table)


async def _get(connection: Connection, task_id: str, *, outputs: bool, output: Output) -> None:
    async with connection as client:
        task = await client.get(task_id, steps=True, outputs=outputs)
    if output is Output.JSON:
        print_json(task_to_json(task))
        return
    screen = console()
    screen.print(Text.assemble(task.task_id, " ", _styled(task_state(task))))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("STEP", "STATE", "ATTEMPT", "TOOK", "FAILURE"):
        table.add_column(column)
    for step in task.steps:
        table.add_row(
            step.step_id,
            _styled(step_state(step)),
            str(step.attempt),
            span(step.start_time, step.end_time),
            f"{step.failure.reason}: {step.failure.message}" if step.HasField("failure") else "",
        )
    screen.print(table)
    if task.HasField("failure"):
        screen.print(f"{task.failure.reason}: {task.failure.message}", style="red")
    if outputs:
        print_json(
            {step.step_id: without_long_words(from_payload(step.output)) for step in task.steps}
        )
    if task.HasField("output"):
        print_json(without_long_words(from_payload(task.output)))


async def _cancel(connection: Connection, task_id: str, output: Output) -> None:
    async with connection as client:
        _print(await client.cancel(task_id), output)


async def _retry(connection: Connection, task_id: str, output: Output) -> None:
    async with connection as client:
        _print(await client.retry(task_id), output)


def _print(task: Task, output: Output) -> None:
    if output is Output.JSON:
        print_json(task_to_json(task))
    else:
        console().print(Text.assemble(task.task_id, " ", _styled(task_state(task))))


def _styled(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state, ""))


def _state(name: str | None) -> "TaskState.ValueType":
    if name is None:
        return TaskState.TASK_STATE_UNSPECIFIED
    try:
        return TaskState.Value(f"TASK_STATE_{name.upper()}")
    except ValueError:
        known = ", ".join(key.removeprefix("TASK_STATE_") for key in TaskState.keys()[1:])
        raise typer.BadParameter(f"{name} is not a state; known: {known}") from None


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair} is not KEY=VALUE")
        labels[key] = value
    return labels
