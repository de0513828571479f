"""`stepwire subscriptions`: says where the events of tasks go."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from stepwire.api.executor.v1.task_pb2 import TaskEventType, TaskState
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import CommandError, ExitCode, run
from stepwire.cli.files import read_text, source_of
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption, labels_of
from stepwire.cli.output import (
    STATE_STYLES,
    console,
    print_json,
    task_state,
    task_to_json,
    to_json,
)
from stepwire.cli.submit import read_task
from stepwire.cli.subscription_view import (
    EVENT_PREFIX,
    show_deliveries,
    show_subscription,
    show_subscriptions,
)
from stepwire.sdk.subscriptions import Revealed, Wanted

subscriptions = typer.Typer(
    help="Say where the events of tasks go: webhooks and handlers.", no_args_is_help=True
)

LABEL = "stepwire.subscription"
TEST_WAIT = timedelta(seconds=30)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the subscription.")]


@subscriptions.command("create")
def create(
    name: NameArgument,
    *,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Send events to this address.")
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Start this task for each event: a file as for `submit`, without input.",
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="succeeded, failed, cancelled, retried, paused or resumed; may be repeated. By"
            " default the first three.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only tasks with this label; may be repeated."),
    ] = None,
    workflow: Annotated[str, typer.Option(help="Only tasks that run this workflow.")] = "",
    include_output: Annotated[
        bool, typer.Option("--include-output", help="Events carry the task's output.")
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Subscribe to events; a webhook's secret is shown only now."""
    if (webhook is None) == (handler is None):
        raise typer.BadParameter("give either --webhook or --handler")
    wanted = Wanted(
        events=[_event(each) for each in event or []],
        labels=labels_of(label),
        workflow=workflow,
        include_output=include_output,
    )
    run(
        _create(
            connect(gateway, home),
            name,
            webhook=webhook,
            handler=handler,
            wanted=wanted,
            output=output,
        )
    )


@subscriptions.command("list")
def list_subscriptions(
    *, gateway: GatewayOption = None, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List subscriptions by name."""
    run(_list(connect(gateway, home), output))


@subscriptions.command("get")
def get(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a subscription."""
    run(_get(connect(gateway, home), name, output))


@subscriptions.command("pause")
def pause(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let events pass by; deliveries under way fail and can be retried."""
    run(_set_paused(connect(gateway, home), name, paused=True, output=output))


@subscriptions.command("resume")
def resume(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Have events delivered again, also after the server has paused by itself."""
    run(_set_paused(connect(gateway, home), name, paused=False, output=output))


@subscriptions.command("rotate")
def rotate(
    name: NameArgument,
    *,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=168, help="For how long the old secret is used as well.")
    ] = 24,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a webhook a new secret, which is shown only now."""
    run(_rotate(connect(gateway, home), name, timedelta(hours=overlap_hours), output))


@subscriptions.command("test")
def send_ping(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send a ping, and wait up to 30 s for what comes of it."""
    run(_test(connect(gateway, home), name, output))


@subscriptions.command("deliveries")
def deliveries(
    name: NameArgument,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that have failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most deliveries to show.")] = 20,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the tasks that deliver a subscription's events, newest first.

    `stepwire tasks retry TASK` makes one that has failed again.
    """
    run(_deliveries(connect(gateway, home), name, failed=failed, limit=limit, output=output))


@subscriptions.command("delete")
def delete(
    name: NameArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Delete a subscription; its deliveries under way fail."""
    run(_delete(connect(gateway, home), name, output))


async def _create(
    connection: Connection,
    name: str,
    *,
    webhook: str | None,
    handler: str | None,
    wanted: Wanted,
    output: Output,
) -> None:
    async with connection as client:
        if handler is None:
            created = await client.subscriptions.create_webhook(name, webhook or "", **wanted)
        else:
            task = read_task(read_text(handler), source_of(handler))
            made = await client.subscriptions.create_handler(name, task, **wanted)
            created = Revealed(made, "")
    show_subscription(created, output)


async def _list(connection: Connection, output: Output) -> None:
    async with connection as client:
        found = [each async for each in client.subscriptions.find()]
    if output is Output.JSON:
        print_json([to_json(each) for each in found])
        return
    show_subscriptions(found)


async def _get(connection: Connection, name: str, output: Output) -> None:
    async with connection as client:
        found = await client.subscriptions.get(name)
    show_subscription(Revealed(found, ""), output)


async def _set_paused(connection: Connection, name: str, *, paused: bool, output: Output) -> None:
    async with connection as client:
        change = client.subscriptions.pause if paused else client.subscriptions.resume
        changed = await change(name)
    show_subscription(Revealed(changed, ""), output)


async def _rotate(connection: Connection, name: str, overlap: timedelta, output: Output) -> None:
    async with connection as client:
        rotated = await client.subscriptions.rotate(name, overlap=overlap)
    show_subscription(rotated, output)


async def _test(connection: Connection, name: str, output: Output) -> None:
    async with connection as client:
        task_id = await client.subscriptions.test(name)
        await client.wait(task_id, timeout=TEST_WAIT)
        task = await client.get(task_id, steps=True)
    if output is Output.JSON:
        print_json(task_to_json(task))
    else:
        state = task_state(task)
        console().print(Text.assemble(task_id, " ", Text(state, style=STATE_STYLES.get(state, ""))))
        for step in task.steps:
            if step.HasField("failure"):
                console().print(f"{step.failure.reason}: {step.failure.message}", style="red")
    if task.state != TaskState.TASK_STATE_SUCCEEDED:
        raise CommandError("the ping has not arrived", ExitCode.FAILED)


async def _deliveries(
    connection: Connection, name: str, *, failed: bool, limit: int, output: Output
) -> None:
    state = TaskState.TASK_STATE_FAILED if failed else TaskState.TASK_STATE_UNSPECIFIED
    found = []
    async with connection as client:
        subscription = await client.subscriptions.get(name)
        labels = {LABEL: subscription.subscription_id}
        async for task in client.find(state=state, labels=labels, page_size=min(limit, 1000)):
            found.append(task)
            if len(found) == limit:
                break
    if output is Output.JSON:
        print_json([task_to_json(task) for task in found])
        return
    show_deliveries(found)


async def _delete(connection: Connection, name: str, output: Output) -> None:
    async with connection as client:
        await client.subscriptions.delete(name)
    if output is Output.JSON:
        print_json({"name": name})
    else:
        typer.echo(f"{name} deleted")


def _event(name: str) -> "TaskEventType.ValueType":
    try:
        return TaskEventType.Value(f"{EVENT_PREFIX}{name.upper()}")
    except ValueError:
        raise typer.BadParameter(f"{name} is not an event of tasks") from None
