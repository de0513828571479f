"""`stepwire schedules`: tasks that are created again and again."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer
import yaml

from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.schedule_service_pb2 import (
    OverlapPolicy,
    Schedule,
    ScheduleConfig,
    ScheduleRunOutcome,
)
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, run
from stepwire.cli.files import load_object, read_text, source_of, to_message
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, WatchOption
from stepwire.cli.output import print_json, to_json
from stepwire.cli.schedule_view import print_schedule, print_schedules, run_words
from stepwire.cli.submit import FileArgument, read_task
from stepwire.cli.watch import follow_task
from stepwire.sdk.client import Client

# Fields that are written as in the API's JSON.
_FIELDS = {
    *("cron", "time_zone", "catch_up_window", "max_catch_up"),
    *("start_time", "end_time", "jitter"),
}
_KEYS = {"name", "task", "overlap_policy", *_FIELDS}

schedules = typer.Typer(
    help="Create tasks again and again, at the times of a cron expression.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept with the schedule.")]


@schedules.command("apply")
def apply_schedule(
    file: FileArgument,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only check it, and show when it would fire.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create the schedule that FILE describes, or change the one of this name.

    The file holds `name`, `cron` and `task`, and if wanted `time_zone`, `overlap_policy`
    (SKIP, BUFFER_ONE, ALLOW, CANCEL_OTHER), `catch_up_window`, `max_catch_up`, `start_time`,
    `end_time` and `jitter`; the task is written as for `stepwire submit`:

        name: nightly
        cron: "30 6 * * MON-FRI"
        time_zone: Europe/Berlin
        task: {workflow: report, input: {days: 1}}
    """

    async def verb(client: Client) -> Schedule:
        given = read_schedule(read_text(file), source_of(file))
        if check:
            return await client.schedules.create(given.name, given.config, validate_only=True)
        return await client.schedules.apply(given.name, given.config)

    run(_show(connect(gateway, home), verb, output))


@schedules.command("list")
def list_schedules(
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the schedules by name."""
    run(_list(connect(gateway, home), output))


@schedules.command("get")
def get_schedule(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a schedule, when it fires next, and what became of its last firings."""
    run(_show(connect(gateway, home), lambda client: client.schedules.get(name), output))


@schedules.command()
def pause(
    name: NameArgument,
    *,
    note: NoteOption = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop its firings."""
    connection = connect(gateway, home)
    run(_show(connection, lambda client: client.schedules.pause(name, note=note), output))


@schedules.command()
def resume(
    name: NameArgument,
    *,
    note: NoteOption = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let it fire again, from now on; what the pause has kept back is not made up for."""
    connection = connect(gateway, home)
    run(_show(connection, lambda client: client.schedules.resume(name, note=note), output))


@schedules.command()
def trigger(
    name: NameArgument,
    *,
    overlap: Annotated[
        str,
        typer.Option(help="What happens if its last task has not ended, e.g. ALLOW."),
    ] = "",
    watch: WatchOption = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Fire once, now."""
    run(_trigger(connect(gateway, home), name, overlap=overlap, watch=watch, output=output))


@schedules.command()
def delete(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Delete a schedule; its tasks stay."""
    run(_delete(connect(gateway, home), name, output))


@dataclass(frozen=True, slots=True)
class Given:
    """A schedule as a file describes it."""

    name: str
    config: ScheduleConfig


def read_schedule(text: str, source: str) -> Given:
    """Reads a schedule from YAML or JSON text.

    Args:
        text: The text.
        source: Where it is from, for error messages.

    Raises:
        CommandError: It does not describe a schedule; the message says where.
    """
    data = load_object(text, source, keys=_KEYS)
    for key in ("name", "cron", "task"):
        if key not in data:
            raise CommandError(f"{source}: the key `{key}` is missing")
    fields = {name: data[name] for name in _FIELDS if name in data}
    config = to_message(fields, ScheduleConfig(), source=source)
    config.overlap_policy = policy_of(str(data.get("overlap_policy") or ""))
    config.task.CopyFrom(_task_of(data["task"], f"{source}: task"))
    return Given(str(data["name"]), config)


def policy_of(word: str) -> "OverlapPolicy.ValueType":
    """Reads an overlap policy; empty means what the server takes by default.

    Raises:
        CommandError: It is none.
    """
    if not word:
        return OverlapPolicy.OVERLAP_POLICY_UNSPECIFIED
    try:
        return OverlapPolicy.Value(f"OVERLAP_POLICY_{word.upper()}")
    except ValueError:
        known = ", ".join(key.removeprefix("OVERLAP_POLICY_") for key in OverlapPolicy.keys()[1:])
        raise CommandError(f"{word} is not an overlap policy; known: {known}") from None


def _task_of(data: object, source: str) -> CreateTaskRequest:
    request = read_task(yaml.safe_dump(data), source).request()
    # Each firing has its own.
    request.ClearField("request_id")
    return request


async def _show(
    connection: Connection, verb: Callable[[Client], Awaitable[Schedule]], output: Output
) -> None:
    async with connection as client:
        schedule = await verb(client)
    if output is Output.JSON:
        print_json(to_json(schedule))
    else:
        print_schedule(schedule)


async def _list(connection: Connection, output: Output) -> None:
    async with connection as client:
        found = [schedule async for schedule in client.schedules.find()]
    if output is Output.JSON:
        print_json([to_json(schedule) for schedule in found])
    else:
        print_schedules(found)


async def _trigger(
    connection: Connection,
    name: str,
    *,
    overlap: str,
    watch: bool,
    output: Output,
) -> None:
    policy = policy_of(overlap)
    async with connection as client:
        fired = await client.schedules.trigger(name, overlap=policy)
        started = fired.outcome == ScheduleRunOutcome.SCHEDULE_RUN_OUTCOME_STARTED
        if output is Output.JSON and not (watch and started):
            print_json(to_json(fired))
        elif output is Output.TEXT:
            typer.echo(run_words(fired))
        if watch and started:
            await follow_task(client, fired.task_id, after=0, output=output)


async def _delete(connection: Connection, name: str, output: Output) -> None:
    async with connection as client:
        await client.schedules.delete(name)
    if output is Output.JSON:
        print_json({"name": name})
    else:
        typer.echo(f"{name} deleted")
