"""Options that select tasks."""

from datetime import datetime
from typing import Annotated

import typer

from stepwire.api.executor.v1.task_pb2 import TaskState
from stepwire.cli.options import labels_of, split_workflow
from stepwire.sdk.requests import Conditions

StateOption = Annotated[str | None, typer.Option(help="Only tasks in this state, e.g. FAILED.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only tasks with this label; may be repeated."),
]
WorkflowOption = Annotated[
    str | None,
    typer.Option(metavar="NAME[@VERSION]", help="Only tasks of this workflow, or version of it."),
]
ReasonOption = Annotated[
    str | None, typer.Option(help="Only tasks that failed for this reason, e.g. STEP_TIMED_OUT.")
]
FromOption = Annotated[
    datetime | None,
    typer.Option("--from", help="Only tasks created at this time (of this machine) or later."),
]
BeforeOption = Annotated[
    datetime | None,
    typer.Option("--before", help="Only tasks created before this time (of this machine)."),
]


def conditions(
    *,
    state: str | None,
    label: list[str] | None,
    workflow: str | None,
    reason: str | None,
    created_from: datetime | None,
    created_before: datetime | None,
) -> Conditions:
    """Returns what the options say.

    Raises:
        typer.BadParameter: An option's value is badly formed.
    """
    name, version = split_workflow(workflow or "")
    return Conditions(
        state=_state(state),
        labels=labels_of(label),
        workflow=name,
        workflow_version=version,
        failure_reason=(reason or "").upper(),
        created_from=None if created_from is None else created_from.astimezone(),
        created_before=None if created_before is None else created_before.astimezone(),
    )


def _state(name: str | None) -> "TaskState.ValueType":
    if name is None:
        return TaskState.TASK_STATE_UNSPECIFIED
    try:
        return TaskState.Value(f"TASK_STATE_{name.upper()}")
    except ValueError:
        known = ", ".join(key.removeprefix("TASK_STATE_") for key in TaskState.keys()[1:])
        raise typer.BadParameter(f"{name} is not a state; known: {known}") from None
