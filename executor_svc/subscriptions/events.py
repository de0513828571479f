"""Which events there are, who wants them, and how they are written. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import orjson

from executor_svc.subscriptions.records import SUBSCRIPTION_LABEL, Occurrence, Subscription
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.payload import MAX_NESTING, nesting

PING: Final = "subscription.ping"

STATES: Final[Mapping[int, str]] = MappingProxyType(
    {
        TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED: "SUCCEEDED",
        TaskEventType.TASK_EVENT_TYPE_TASK_FAILED: "FAILED",
        TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED: "CANCELLED",
        TaskEventType.TASK_EVENT_TYPE_TASK_RETRIED: "RUNNING",
        TaskEventType.TASK_EVENT_TYPE_TASK_PAUSED: "PAUSED",
        TaskEventType.TASK_EVENT_TYPE_TASK_RESUMED: "RUNNING",
    }
)
"""The events that can be subscribed to, and the state that each brings a task into."""

DEFAULT_EVENTS: Final = (
    TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED,
    TaskEventType.TASK_EVENT_TYPE_TASK_FAILED,
    TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED,
)

_OUTPUT_KEY = b',"output":'
# Of objects that stand around an output in an event.
_OUTPUT_LEVELS = 2


def wants(subscription: Subscription, occurrence: Occurrence) -> bool:
    """Tell whether an event is to be delivered to a subscription.

    The tasks that a subscription itself has started are no event for it.
    """
    labels = occurrence.labels
    return (
        not subscription.paused
        and occurrence.type in subscription.events
        and subscription.workflow in ("", occurrence.workflow)
        and subscription.labels.items() <= labels.items()
        and subscription.created_at <= occurrence.recorded_at
        and labels.get(SUBSCRIPTION_LABEL) != str(subscription.subscription_id)
    )


def write_event(occurrence: Occurrence, output: bytes | None, *, limit_bytes: int) -> bytes:
    """Return an event as JSON text.

    Args:
        occurrence: what happened.
        output: the task's output as JSON text; None to leave it out.
        limit_bytes: where the event would be larger with it, or nested deeper than an input may
            be, the output is left out.
    """
    data: dict[str, Any] = {
        "task_id": str(occurrence.task_id),
        "cursor": occurrence.cursor,
        "state": STATES[occurrence.type],
        "workflow": occurrence.workflow,
        "workflow_version": occurrence.workflow_version,
        "labels": dict(occurrence.labels),
        "failure": dict(occurrence.failure),
    }
    data = {name: value for name, value in data.items() if value}
    event = {
        "type": type_name(occurrence.type),
        "timestamp": _rfc3339(occurrence.recorded_at),
        "data": data,
    }
    text = orjson.dumps(event)
    if output is None:
        return text
    too_large = len(text) + len(_OUTPUT_KEY) + len(output) > limit_bytes
    if too_large or nesting(orjson.loads(output)) + _OUTPUT_LEVELS > MAX_NESTING:
        data["output_omitted"] = True
        return orjson.dumps(event)
    # `data` comes last, and is never empty.
    return text[: -len(b"}}")] + _OUTPUT_KEY + output + b"}}"


def write_ping(subscription: Subscription, now: datetime) -> bytes:
    """Return the event by which a subscription is tested."""
    return orjson.dumps(
        {
            "type": PING,
            "timestamp": _rfc3339(now),
            "data": {"subscription": subscription.name},
        }
    )


def type_name(event_type: int) -> str:
    """Return the name by which receivers know a type of event, such as `task.succeeded`."""
    name = TaskEventType.Name(event_type)  # type: ignore[arg-type]
    return f"task.{name.removeprefix('TASK_EVENT_TYPE_TASK_').lower()}"


def type_of(name: str) -> int:
    """Return the type of event of which a notice gives the name, such as `SUCCEEDED`."""
    return TaskEventType.Value(f"TASK_EVENT_TYPE_TASK_{name}")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
