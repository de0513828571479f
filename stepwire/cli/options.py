"""Options that many commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stepwire.stack.state import HOME_VARIABLE


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        envvar="STEPWIRE_GATEWAY",
        metavar="HOST:PORT",
        help="The gateway to call; https://HOST for TLS. By default that of the local stack.",
        show_default=False,
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar=HOME_VARIABLE,
        help="Home folder of the local stack. By default `.stepwire` in the current folder.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="Print for people, or JSON for programs.")
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", help="The collection of passages.")
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task.")]

DEFAULT_COLLECTION = "documents"
LabelsOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label of the new task; may be repeated."),
]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="YAML", help="The task's input, in YAML or JSON.")
]
RequestIdOption = Annotated[
    str | None,
    typer.Option(help="Idempotency key: the same one has its effect once. By default a new one."),
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Follow the task to its end.")]


def labels_of(pairs: list[str] | None) -> dict[str, str]:
    """Reads labels.

    Raises:
        typer.BadParameter: One is not KEY=VALUE.
    """
    labels = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair} is not KEY=VALUE")
        labels[key] = value
    return labels


def split_workflow(text: str) -> tuple[str, str]:
    """Reads NAME or NAME@VERSION; gives name and version, which may be empty."""
    name, _, version = text.partition("@")
    return name, version
