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
        help="The gateway to call. By default that of the local stack.",
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
