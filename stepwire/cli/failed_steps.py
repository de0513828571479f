"""`stepwire queues failed` and `replay`: steps that failed for good."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from stepwire.api.executor.v1.queue_service_pb2 import FailedStep, ListFailedStepsResponse
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import ExitCode, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, moment, print_json, shortened, to_json
from stepwire.sdk.queues import FailedConditions, Replayed

_MESSAGE_CHARACTERS = 100

ReasonOption = Annotated[
    str, typer.Option(help="Only steps that failed for this reason, e.g. STEP_TIMED_OUT.")
]
QueueOption = Annotated[str, typer.Option(help="Only steps of this queue.")]
WorkflowOption = Annotated[
    str, typer.Option(metavar="NAME", help="Only steps of tasks that run this workflow.")
]
FromOption = Annotated[
    datetime | None,
    typer.Option("--from", help="Only steps that failed at this time (of this machine) or later."),
]
BeforeOption = Annotated[
    datetime | None,
    typer.Option("--before", help="Only steps that failed before this time (of this machine)."),
]


def failed_steps(
    *,
    reason: ReasonOption = "",
    queue: QueueOption = "",
    workflow: WorkflowOption = "",
    failed_from: FromOption = None,
    failed_before: BeforeOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Most steps to show.")] = 20,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List steps that failed for good, and how many failed for which reason."""
    conditions = _conditions(reason, queue, workflow, failed_from, failed_before)
    run(_failed(connect(gateway, home), conditions, limit, output))


def replay_steps(
    task_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="Tasks whose failed steps run again."),
    ] = None,
    *,
    reason: ReasonOption = "",
    queue: QueueOption = "",
    workflow: WorkflowOption = "",
    failed_from: FromOption = None,
    failed_before: BeforeOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Most tasks; 0: all of them.")] = 0,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run failed steps again: those of some tasks, or all that the options select.

    Exits with 5 if some were left as they are.
    """
    conditions = _conditions(reason, queue, workflow, failed_from, failed_before)
    if bool(task_ids) == any(conditions.values()):
        raise typer.BadParameter("name tasks, or select steps by an option")
    run(_replay(connect(gateway, home), task_ids or [], conditions, limit, output))


async def _failed(
    connection: Connection, conditions: FailedConditions, limit: int, output: Output
) -> None:
    steps: list[FailedStep] = []
    first: ListFailedStepsResponse | None = None
    async with connection as client:
        async for page in client.queues.failed(conditions, page_size=min(limit, 1000)):
            first = first or page
            steps += page.steps
            if len(steps) >= limit:
                break
    assert first is not None
    if output is Output.JSON:
        counts = {each.reason: each.steps for each in first.reasons}
        print_json(
            {
                "reasons": counts,
                "reasons_capped": first.reasons_capped,
                "steps": [to_json(step) for step in steps[:limit]],
            }
        )
        return
    screen = console()
    if not steps:
        console(stderr=True).print("there are none")
    for each in first.reasons:
        screen.print(f"{each.steps:>8} {each.reason}")
    if first.reasons_capped:
        screen.print("         (of the newest only; there may be more)")
    for step in steps[:limit]:
        where = f"{step.task_id} {step.step_id}"
        screen.print(f"{where}  in {step.queue}, {moment(step.end_time)}", soft_wrap=True)
        message = shortened(step.failure.message, _MESSAGE_CHARACTERS)
        screen.print(f"    {step.failure.reason}: {message}", soft_wrap=True)


async def _replay(
    connection: Connection,
    task_ids: list[str],
    conditions: FailedConditions,
    limit: int,
    output: Output,
) -> None:
    total = Replayed()
    screen = console(stderr=True)
    async with connection as client:
        if task_ids:
            total = await client.queues.replay_tasks(task_ids)
        else:
            async for page in client.queues.replay(conditions, limit=limit):
                total = Replayed(
                    total.tasks + page.tasks,
                    total.steps + page.steps,
                    {**total.refused, **page.refused},
                )
                _tell_progress(screen, total)
    if output is Output.JSON:
        print_json({"tasks": total.tasks, "steps": total.steps, "refused": dict(total.refused)})
    else:
        console().print(f"{total.steps} steps of {total.tasks} tasks run again")
        for task_id, reason in total.refused.items():
            console().print(f"{task_id} was left as it is: {reason}", style="yellow")
    if total.refused:
        raise typer.Exit(ExitCode.CONFLICT)


def _tell_progress(screen: Console, total: Replayed) -> None:
    if screen.is_terminal:
        screen.print(f"{total.tasks} tasks …")


def _conditions(
    reason: str,
    queue: str,
    workflow: str,
    failed_from: datetime | None,
    failed_before: datetime | None,
) -> FailedConditions:
    return FailedConditions(
        reason=reason.upper(),
        queue=queue,
        workflow=workflow,
        failed_from=None if failed_from is None else failed_from.astimezone(),
        failed_before=None if failed_before is None else failed_before.astimezone(),
    )
