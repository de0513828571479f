"""`stepwire ingest`: a folder of text files into a collection."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stepwire.cli.board import make_board
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, ExitCode, run
from stepwire.cli.options import (
    DEFAULT_COLLECTION,
    CollectionOption,
    GatewayOption,
    HomeOption,
    Output,
    OutputOption,
)
from stepwire.cli.output import console, print_json
from stepwire.ingest.run import Folder, FolderConflictError, IngestReport, ingest_folder

_MEBIBYTE = 1024 * 1024


def ingest(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="The folder, with all below it."
        ),
    ],
    *,
    collection: CollectionOption = DEFAULT_COLLECTION,
    label: Annotated[
        str | None,
        typer.Option(help="Begins the names of the files; by default the folder's name."),
    ] = None,
    max_file_mib: Annotated[
        int, typer.Option(min=1, max=1024, help="Larger files are skipped.")
    ] = 8,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read the .txt, .md and .rst files of DIR into a collection, for `stepwire ask`.

    Repeat it after changes: only new and changed files are read again, and passages of files
    that are gone are deleted. Exits with 1 if a file's task failed; files that cannot be read
    are reported and skipped.
    """
    path = folder.resolve()
    chosen = label or path.name or "root"
    if "/" in chosen:
        raise typer.BadParameter("must not have / in it", param_hint="--label")
    what = Folder(
        path=path,
        label=chosen,
        collection=collection,
        max_file_bytes=max_file_mib * _MEBIBYTE,
    )
    report = run(_ingest(connect(gateway, home), what, output))
    if report.failed:
        raise typer.Exit(ExitCode.FAILED)


async def _ingest(connection: Connection, folder: Folder, output: Output) -> IngestReport:
    board = make_board(console(stderr=output is Output.JSON))
    try:
        async with connection as client:
            report = await ingest_folder(client, folder, board=board)
    except FolderConflictError as error:
        raise CommandError(f"{error} (--label)", ExitCode.CONFLICT) from error
    if output is Output.JSON:
        print_json({"collection": folder.collection, **dataclasses.asdict(report)})
    else:
        _print(report, folder, console())
    return report


def _print(report: IngestReport, folder: Folder, screen: Console) -> None:
    for name, why in sorted(report.skipped.items()):
        screen.print(f"skipped {name}: it {why}", style="yellow", soft_wrap=True)
    for name, why in sorted(report.failed.items()):
        screen.print(f"FAILED {name}: {why}", style="bold red", soft_wrap=True)
    screen.print(
        f"{folder.collection}: {len(report.ingested)} files read in "
        f"{sum(report.ingested.values())} passages, {len(report.unchanged)} unchanged, "
        f"{len(report.removed)} removed, {len(report.skipped)} skipped, {len(report.failed)} "
        f"failed, in {report.seconds:.1f} s",
        soft_wrap=True,
    )
