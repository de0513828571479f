"""How `stepwire subscriptions` shows subscriptions and deliveries."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.subscription_service_pb2 import Subscription
from stepwire.api.executor.v1.task_pb2 import Task, TaskEventType
from stepwire.cli.options import Output
from stepwire.cli.output import (
    STATE_STYLES,
    console,
    moment,
    print_json,
    shortened,
    task_state,
    to_json,
)
from stepwire.sdk.subscriptions import Revealed

EVENT_PREFIX = "TASK_EVENT_TYPE_TASK_"
TASK_LABEL = "stepwire.task"
_SHOWN = 60
_SHOWN_OF_FAILURE = 200


def show_subscription(revealed: Revealed, output: Output) -> None:
    """Prints a subscription, and the secret that its webhook was just given."""
    subscription = revealed.subscription
    if output is Output.JSON:
        data: dict[str, Any] = {"subscription": to_json(subscription)}
        print_json(data | ({"secret": revealed.secret} if revealed.secret else {}))
        return
    screen = console()
    screen.print(f"{subscription.name} {subscription.subscription_id}")
    screen.print(f"{_events(subscription)} of {_tasks(subscription)}")
    screen.print(f"to {_where(subscription)}", soft_wrap=True)
    if subscription.paused:
        because = f": {subscription.paused_because}" if subscription.paused_because else ""
        screen.print(f"paused{because}", style="yellow")
    if subscription.webhook.HasField("previous_secret_end_time"):
        screen.print(
            "signed with the secret before as well until "
            + moment(subscription.webhook.previous_secret_end_time)
        )
    if revealed.secret:
        screen.print(f"secret, shown only now: {revealed.secret}", soft_wrap=True)


def show_subscriptions(found: Sequence[Subscription]) -> None:
    """Prints subscriptions as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("NAME", "EVENTS", "OF", "TO", "PAUSED"):
        table.add_column(column, no_wrap=column == "NAME")
    for each in found:
        paused = each.paused_because or ("yes" if each.paused else "")
        table.add_row(
            each.name, _events(each), _tasks(each), shortened(_where(each), _SHOWN), paused
        )
    console().print(table)


def show_deliveries(found: Sequence[Task]) -> None:
    """Prints the tasks that deliver events, one on a line, which two ids make a long one."""
    screen = console()
    for task in found:
        state = task_state(task)
        line = Text.assemble(task.task_id, " ", Text(f"{state:9}", STATE_STYLES.get(state, "")))
        line.append(f" {moment(task.create_time)} {task.labels.get(TASK_LABEL, 'ping')}")
        if task.HasField("failure"):
            failure = f"{task.failure.reason}: {task.failure.message}"
            line.append(f" {shortened(failure, _SHOWN_OF_FAILURE)}")
        screen.print(line, soft_wrap=True)


def _events(subscription: Subscription) -> str:
    names = (TaskEventType.Name(event) for event in subscription.events)
    return " ".join(name.removeprefix(EVENT_PREFIX).lower() for name in names)


def _tasks(subscription: Subscription) -> str:
    parts = [f"workflow {subscription.workflow}"] if subscription.workflow else []
    parts += [f"{key}={value}" for key, value in sorted(subscription.labels.items())]
    return " ".join(parts) or "all tasks"


def _where(subscription: Subscription) -> str:
    if subscription.WhichOneof("target") == "webhook":
        return subscription.webhook.url
    task = subscription.handler.task
    if task.HasField("workflow"):
        return f"workflow {task.workflow.name} {task.workflow.version}".rstrip()
    return f"a graph of {len(task.graph.steps)} steps"
