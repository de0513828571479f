"""`stepwire search`: the passages of a collection that are nearest to a text."""

from typing import Annotated, Any

import typer
from rich.text import Text

from stepwire.api.vector.v1.search_pb2 import ScoredPoint
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json, shortened
from stepwire.payload import struct_to_json

_SHOWN_CHARACTERS = 240


def search(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="The collection to search.")
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, in words.")],
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 5,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Find the points of a collection that are nearest in meaning to a text."""
    run(_search(connect(gateway, home), collection, text, limit=limit, output=output))


async def _search(
    connection: Connection, collection: str, text: str, *, limit: int, output: Output
) -> None:
    async with connection as client:
        hits = [_to_json(hit) for hit in await client.search(collection, text, limit=limit)]
    if output is Output.JSON:
        print_json(hits)
        return
    screen = console()
    for hit in hits:
        screen.print(Text.assemble(f"{hit['score']:.3f}  ", (hit["id"], "bold")))
        if passage := hit["payload"].get("text"):
            screen.print(Text(shortened(str(passage), _SHOWN_CHARACTERS), style="dim"))


def _to_json(hit: ScoredPoint) -> dict[str, Any]:
    return {
        "id": hit.point.id,
        "score": round(hit.score, 6),
        "payload": struct_to_json(hit.point.payload),
    }
