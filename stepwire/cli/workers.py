"""`stepwire workers`: lists and drains workers."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from stepwire.api.executor.v1.queue_service_pb2 import Worker
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, ExitCode, run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json, to_json

workers = typer.Typer(help="List and drain workers.", no_args_is_help=True)


@workers.command("list")
def list_workers(
    *, gateway: GatewayOption = None, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List the workers that are alive."""
    run(_list(connect(gateway, home), output))


@workers.command("drain")
def drain_worker(
    worker: Annotated[
        str, typer.Argument(metavar="WORKER", help="Its name, or the id of its session.")
    ],
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a worker finish what it runs and start nothing more, until it is started anew."""
    run(_drain(connect(gateway, home), worker, output))


async def _list(connection: Connection, output: Output) -> None:
    async with connection as client:
        _print(await client.queues.workers(), output)


async def _drain(connection: Connection, worker: str, output: Output) -> None:
    async with connection as client:
        found = [
            each for each in await client.queues.workers() if worker in (each.name, each.session_id)
        ]
        if not found:
            raise CommandError(f"no worker {worker} is alive", ExitCode.NOT_FOUND)
        _print([await client.queues.drain_worker(each.session_id) for each in found], output)


def _print(found: Sequence[Worker], output: Output) -> None:
    if output is Output.JSON:
        print_json([to_json(worker) for worker in found])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("WORKER", "STATE", "SLOTS", "QUEUES", "VERSION"):
        table.add_column(column, no_wrap=column != "QUEUES")
    for worker in found:
        table.add_row(
            worker.name,
            "DRAINING" if worker.draining else "ACTIVE",
            f"{worker.busy_slots}/{worker.slots}",
            ", ".join(worker.queues),
            worker.version,
        )
    console().print(table)
