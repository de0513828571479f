"""`stepwire ask`: answers a question from a collection, with sources."""

from typing import Annotated, Any

import typer
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import TaskState
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
from stepwire.cli.output import console, print_json, tell
from stepwire.ingest.graphs import DEFAULT_HITS, question_graph
from stepwire.sdk.client import Client
from stepwire.sdk.values import from_payload


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in words.")],
    *,
    collection: CollectionOption = DEFAULT_COLLECTION,
    model: Annotated[
        str, typer.Option(help="Model of the catalogue; by default the router chooses.")
    ] = "",
    hits: Annotated[
        int, typer.Option(min=1, max=64, help="Passages to answer from.")
    ] = DEFAULT_HITS,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Answer a question from a collection and name the documents it quotes."""
    run(
        _ask(
            connect(gateway, home),
            question,
            collection=collection,
            model=model,
            hits=hits,
            output=output,
        )
    )


async def _ask(
    connection: Connection,
    question: str,
    *,
    collection: str,
    model: str,
    hits: int,
    output: Output,
) -> None:
    if not question.strip():
        raise CommandError("the question is empty")
    async with connection as client:
        await _check_filled(client, collection)
        graph = question_graph(collection, hits=hits, model_name=model)
        task = await client.create(
            graph, {"question": question}, labels={"job": "ask", "collection": collection}
        )
        task = await client.wait(task.task_id)
    if task.state != TaskState.TASK_STATE_SUCCEEDED:
        raise CommandError(
            f"task {task.task_id}: {task.failure.message or 'was cancelled'}", ExitCode.FAILED
        )
    answer = from_payload(task.output)
    if output is Output.JSON:
        print_json({"task_id": task.task_id, **answer})
    else:
        _print(task.task_id, answer)


async def _check_filled(client: Client, collection: str) -> None:
    """Refuses a collection without points, from which nothing can be answered."""
    found = await client.vectors.find(collection)
    if found is None or found.point_count == 0:
        raise CommandError(
            f"there is nothing in collection {collection!r}; `stepwire ingest DIR --collection "
            f"{collection}` fills it",
            ExitCode.NOT_FOUND,
        )


def _print(task_id: str, answer: dict[str, Any]) -> None:
    screen = console()
    tell(screen, answer["text"])
    screen.print()
    for source in answer["sources"]:
        tell(screen, Text.assemble((source["source"], "bold"), "  ", source["title"]))
    tell(screen, f"answered by {answer['model']}, task {task_id}", style="dim")
