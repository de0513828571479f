"""`stepwire queues`: shows and steers queues."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.queue_service_pb2 import (
    Queue,
    QueueSignals,
    QueueState,
)
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import ExitCode, run
from stepwire.cli.failed_steps import failed_steps, replay_steps
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import (
    STATE_STYLES,
    console,
    duration,
    moment,
    print_json,
    to_json,
)
from stepwire.sdk.queues import DRAIN_SECONDS

queues = typer.Typer(
    help="Show, pause and drain queues; list and replay failed steps.", no_args_is_help=True
)

# As many as fit on a terminal of 80 characters; `get` and JSON have the rest.
_COLUMNS = (
    "QUEUE",
    "STATE",
    "READY",
    "RUNNING",
    "OLDEST",
    "IN/S",
    "OUT/S",
    "WORKERS",
    "WANTED",
)

QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]
NoteOption = Annotated[str, typer.Option(help="Why, or by whom, for people.")]

queues.command("failed")(failed_steps)
queues.command("replay")(replay_steps)


@queues.command("list")
def list_queues(
    *, gateway: GatewayOption = None, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List queues, with how busy they are."""
    run(_list(connect(gateway, home), output))


@queues.command("get")
def get_queue(
    queue: QueueArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a queue."""
    run(_get(connect(gateway, home), queue, output))


@queues.command("pause")
def pause_queue(
    queue: QueueArgument,
    *,
    note: NoteOption = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let no further step of a queue start; steps that run go on."""
    run(_pause(connect(gateway, home), queue, note, output))


@queues.command("resume")
def resume_queue(
    queue: QueueArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let the steps of a paused queue start again."""
    run(_resume(connect(gateway, home), queue, output))


@queues.command("drain")
def drain_queue(
    queue: QueueArgument,
    *,
    wait: Annotated[
        bool, typer.Option(help="Wait until none of its steps runs; else only pause it.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(min=0, help="Longest wait in seconds; 0 waits for ever.")
    ] = 0,
    note: NoteOption = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Pause a queue and wait until none of its steps runs. It stays paused."""
    if wait:
        run(_drain(connect(gateway, home), queue, note, timeout, output))
    else:
        run(_pause(connect(gateway, home), queue, note, output))


@queues.command("scaling")
def scaling(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE", help="Queues. By default all.")
    ] = None,
    *,
    target: Annotated[
        float, typer.Option(min=0, help="Time in seconds in which the backlog shall be gone.")
    ] = 60,
    min_workers: Annotated[int, typer.Option(min=0, help="Fewest workers.")] = 0,
    max_workers: Annotated[int, typer.Option(min=0, help="Most workers; 0: no bound.")] = 0,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say how many workers would drain queues in a time, as autoscalers are told."""
    run(
        _scaling(
            connect(gateway, home),
            names or [],
            timedelta(seconds=target),
            min_workers=min_workers,
            max_workers=max_workers,
            output=output,
        )
    )


async def _list(connection: Connection, output: Output) -> None:
    async with connection as client:
        found = await client.queues.list()
    if output is Output.JSON:
        print_json([to_json(queue) for queue in found])
    else:
        console().print(_table(found))


async def _get(connection: Connection, queue: str, output: Output) -> None:
    async with connection as client:
        _print(await client.queues.get(queue), output)


async def _pause(connection: Connection, queue: str, note: str, output: Output) -> None:
    async with connection as client:
        _print(await client.queues.pause(queue, note=note), output)


async def _resume(connection: Connection, queue: str, output: Output) -> None:
    async with connection as client:
        _print(await client.queues.resume(queue), output)


async def _drain(
    connection: Connection, queue: str, note: str, timeout_seconds: float, output: Output
) -> None:
    end = time.monotonic() + timeout_seconds if timeout_seconds else None
    async with connection as client:
        while True:
            left = DRAIN_SECONDS if end is None else max(0.001, end - time.monotonic())
            found = await client.queues.drain(
                queue, note=note, at_most_seconds=min(DRAIN_SECONDS, left)
            )
            drained = found.state == QueueState.QUEUE_STATE_PAUSED
            if drained or (end is not None and time.monotonic() >= end):
                break
    _print(found, output)
    if not drained:
        raise typer.Exit(ExitCode.FAILED)


async def _scaling(
    connection: Connection,
    names: list[str],
    target: timedelta,
    *,
    min_workers: int,
    max_workers: int,
    output: Output,
) -> None:
    async with connection as client:
        found = await client.queues.scaling(
            names, target=target, min_workers=min_workers, max_workers=max_workers
        )
    if output is Output.JSON:
        print_json(to_json(found))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("QUEUE", "READY", "IN/S", "OUT/S", "SERVICE", "SLOTS WANTED", "WORKERS WANTED"):
        table.add_column(column)
    for each in found.queues:
        table.add_row(
            each.queue,
            str(each.ready),
            f"{each.arrival_rate:.1f}",
            f"{each.completion_rate:.1f}",
            _span(each, "service_time"),
            f"{each.slots_wanted:.1f}",
            str(each.workers_wanted),
        )
    console().print(table)
    console().print(f"workers wanted for all of them together: {found.workers_wanted}")


def _print(queue: Queue, output: Output) -> None:
    if output is Output.JSON:
        print_json(to_json(queue))
        return
    screen, signals = console(), queue.signals
    screen.print(_table([queue]))
    screen.print(
        f"waiting for a time: {signals.waiting}, slots taken: "
        f"{signals.busy_slots} of {signals.slots}"
    )
    for text, name in (("time to start", "time_to_start"), ("service time", "service_time")):
        if span := _span(signals, name):
            screen.print(f"{text}: {span} on average")
    if queue.state != QueueState.QUEUE_STATE_ACTIVE:
        screen.print(f"paused since {moment(queue.pause_time)} {queue.note}".rstrip())


def _table(found: Sequence[Queue]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    for queue in found:
        signals = queue.signals
        state = QueueState.Name(queue.state).removeprefix("QUEUE_STATE_")
        table.add_row(
            queue.queue,
            Text(state, style=STATE_STYLES.get(state, "")),
            str(signals.ready),
            str(signals.running),
            _span(signals, "oldest_ready_age"),
            f"{signals.arrival_rate:.1f}",
            f"{signals.completion_rate:.1f}",
            str(signals.workers),
            str(signals.workers_wanted),
        )
    return table


def _span(signals: QueueSignals, name: str) -> str:
    """Returns a span of time; nothing where it is not known."""
    if not signals.HasField(name):  # type: ignore[arg-type]
        return ""
    span: Duration = getattr(signals, name)
    return duration(span.ToTimedelta().total_seconds())
