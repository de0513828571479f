"""`stepwire tasks`: lists and shows tasks, and does things to them."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import StepRun, Task
from stepwire.cli import task_verbs
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.filters import (
    BeforeOption,
    FromOption,
    LabelOption,
    ReasonOption,
    StateOption,
    WorkflowOption,
    conditions,
)
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, TaskArgument
from stepwire.cli.output import (
    ID_COLUMNS,
    console,
    moment,
    print_json,
    span,
    step_state,
    styled,
    task_state,
    task_to_json,
    without_long_words,
)
from stepwire.sdk.requests import Conditions
from stepwire.sdk.values import from_payload

_LARGEST_PAGE = 1000
_STATE_COLUMNS = len("CANCELLED")

tasks = typer.Typer(
    help="List and show tasks; cancel, retry, pause, resume, fork and signal them.",
    no_args_is_help=True,
)


@tasks.command("list")
def list_tasks(
    *,
    state: StateOption = None,
    label: LabelOption = None,
    workflow: WorkflowOption = None,
    reason: ReasonOption = None,
    created_from: FromOption = None,
    created_before: BeforeOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Most tasks to show.")] = 20,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List tasks, newest first."""
    selected = conditions(
        state=state,
        label=label,
        workflow=workflow,
        reason=reason,
        created_from=created_from,
        created_before=created_before,
    )
    run(_list(connect(gateway, home), selected, limit=limit, output=output))


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


tasks.command("cancel")(task_verbs.cancel)
tasks.command("retry")(task_verbs.retry)
tasks.command("pause")(task_verbs.pause)
tasks.command("resume")(task_verbs.resume)
tasks.command("fork")(task_verbs.fork)
tasks.command("signal")(task_verbs.signal)
tasks.command("bulk")(task_verbs.bulk)


async def _list(
    connection: Connection, selected: Conditions, *, limit: int, output: Output
) -> None:
    found: list[Task] = []
    async with connection as client:
        async for task in client.find(page_size=min(limit, _LARGEST_PAGE), **selected):
            found.append(task)
            if len(found) == limit:
                break
    if output is Output.JSON:
        print_json([task_to_json(task) for task in found])
        return
    if found:
        console().print(task_rows(found))
    else:
        console(stderr=True).print("there are none")


def task_rows(found: list[Task]) -> Table:
    """Lays tasks out; ids are whole on any screen, and a column without a value is left out."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("TASK", no_wrap=True, min_width=ID_COLUMNS)
    table.add_column("STATE", no_wrap=True, min_width=_STATE_COLUMNS)
    columns = {
        "CREATED": [moment(task.create_time) for task in found],
        "TOOK": [span(task.start_time, task.end_time) for task in found],
        "WORKFLOW": [workflow_of(task) for task in found],
        "LABELS": [
            " ".join(f"{key}={value}" for key, value in sorted(task.labels.items()))
            for task in found
        ],
    }
    filled = {heading: values for heading, values in columns.items() if any(values)}
    for heading in filled:
        table.add_column(heading, overflow="fold")
    for number, task in enumerate(found):
        row = (values[number] for values in filled.values())
        table.add_row(task.task_id, styled(task_state(task)), *row)
    return table


async def _get(connection: Connection, task_id: str, *, outputs: bool, output: Output) -> None:
    async with connection as client:
        task = await client.get(task_id, steps=True, outputs=outputs)
    if output is Output.JSON:
        print_json(task_to_json(task))
        return
    screen = console()
    screen.print(Text.assemble(task.task_id, " ", styled(task_state(task)), " ", workflow_of(task)))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("STEP", "STATE", "ATTEMPT", "TOOK", "NOTE"):
        table.add_column(column)
    for step in task.steps:
        table.add_row(
            step.step_id,
            styled(step_state(step)),
            str(step.attempt),
            span(step.start_time, step.end_time),
            _note(step),
        )
    screen.print(table)
    if task.HasField("failure"):
        screen.print(f"{task.failure.reason}: {task.failure.message}", style="red")
    if outputs:
        screen.print("outputs of its steps:")
        print_json(
            {step.step_id: without_long_words(from_payload(step.output)) for step in task.steps}
        )
    if task.HasField("output"):
        if outputs:
            screen.print("output of the task:")
        print_json(without_long_words(from_payload(task.output)))


def _note(step: StepRun) -> str:
    """Says what a step waits for, and why it failed."""
    notes = []
    if step.waits_for:
        until = f" until {moment(step.wait_until)}" if step.HasField("wait_until") else ""
        notes.append(f"waits for {step.waits_for}{until}")
    if step.HasField("failure"):
        notes.append(f"{step.failure.reason}: {step.failure.message}")
    return "; ".join(notes)


def workflow_of(task: Task) -> str:
    """Returns a task's workflow as NAME@VERSION; empty for a graph of its own."""
    if not task.HasField("workflow"):
        return ""
    return f"{task.workflow.name}@{task.workflow.version}"
