"""`stepwire collections`: lists collections of vectors, names, saves and restores them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Any

import typer
from rich.table import Table

from stepwire.api.vector.v1.collection_pb2 import Collection, IndexState, Metric
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json, tell
from stepwire.cli.transfer import moving

PART_BYTES = 1 << 20
# What a file is called before it is whole.
PART_SUFFIX = ".part"

collections = typer.Typer(
    help="List collections of vectors, name, save and restore them.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the collection.")]


@collections.command("list")
def list_collections(
    *, gateway: GatewayOption = None, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List collections, with their sizes and aliases."""
    run(_list(connect(gateway, home), output))


@collections.command("alias")
def set_alias(
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")],
    collection: Annotated[
        str, typer.Argument(metavar="[COLLECTION]", help="What it is to name; nothing deletes it.")
    ] = "",
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
) -> None:
    """Let an alias name a collection from now on, in one step."""
    run(_alias(connect(gateway, home), alias, collection))


@collections.command("save")
def save(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
) -> None:
    """Save a collection into a file, which changes only once all of it was written."""
    run(_save(connect(gateway, home), name, file))


@collections.command("restore")
def restore(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="A file that `save` has written."
        ),
    ],
    *,
    name: Annotated[
        str, typer.Option("--name", help="Name of the new collection. By default the saved one's.")
    ] = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
) -> None:
    """Make a collection from a file; nothing of it is there unless all is."""
    run(_restore(connect(gateway, home), file, name, size=file.stat().st_size))


async def _list(connection: Connection, output: Output) -> None:
    async with connection as client:
        found, aliases = await client.collections.list(), await client.collections.aliases()
    rows = [_to_json(collection, aliases) for collection in found]
    if output is Output.JSON:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("collection", "points", "dimension", "metric", "index", "aliases"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console().print(table)


async def _alias(connection: Connection, alias: str, collection: str) -> None:
    async with connection as client:
        await client.collections.change_aliases({alias: collection})
    told = f"{alias} names {collection}." if collection else f"{alias} names nothing."
    tell(console(), told)


async def _save(connection: Connection, name: str, file: Path) -> None:
    size = 0
    with _whole_or_not(file) as output, moving("save", total=None) as moved:
        async with connection as client:
            async for data in client.collections.save(name):
                size += await asyncio.to_thread(output.write, data)
                moved(len(data))
    tell(console(), f"Saved {name} into {file}: {size} bytes.")


@contextmanager
def _whole_or_not(file: Path) -> Iterator[IO[bytes]]:
    """Give a file to write, which takes the place of `file` once all of it is on the disk.

    Raises:
        CommandError: It cannot be written.
    """
    try:
        with NamedTemporaryFile(
            dir=file.parent, prefix=f"{file.name}.", suffix=PART_SUFFIX, delete=False
        ) as part:
            try:
                yield part
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).chmod(0o666 & ~_umask())
                Path(part.name).rename(file)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def _restore(connection: Connection, file: Path, name: str, *, size: int) -> None:
    with moving("restore", total=size) as moved:
        async with connection as client:
            made = await client.collections.restore(_parts(file, moved), name=name)
    tell(console(), f"Restored {made.name}: {made.point_count} points.")


async def _parts(file: Path, moved: Callable[[int], None]) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while data := await asyncio.to_thread(source.read, PART_BYTES):
            yield data
            moved(len(data))


def _to_json(collection: Collection, aliases: dict[str, str]) -> dict[str, Any]:
    return {
        "name": collection.name,
        "points": collection.point_count,
        "dimension": collection.dimension,
        "metric": Metric.Name(collection.metric).removeprefix("METRIC_").lower(),
        "index": IndexState.Name(collection.index_state).removeprefix("INDEX_STATE_").lower(),
        "aliases": sorted(alias for alias, name in aliases.items() if name == collection.name),
    }


def _cell(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
