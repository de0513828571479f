"""Reading the fields of requests; each that is not as it must be is refused by name."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from executor_svc.engine.records import TaskState
from executor_svc.graphs.durations import span_of
from executor_svc.tasks.bulk import Action, Position
from executor_svc.tasks.filters import TaskFilter
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import field_invalid
from stepwire.page_tokens import PageTokens

MAX_LABELS = 16
MAX_LABEL_CHARACTERS = 128
# How labels begin that the server sets.
OWN_LABELS = "stepwire."
MAX_REQUEST_ID_CHARACTERS = 128
# A task's id and a stroke come behind it.
MAX_BULK_REQUEST_ID_CHARACTERS = 80
MAX_FILTER_CHARACTERS = 200
DEFAULT_PAGE_SIZE = 50
DEFAULT_BULK_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_PAGES = PageTokens("ListTasks")
_POSITIONS = PageTokens("BulkUpdateTasks")


def task_id_of(text: str) -> UUID:
    """Read a task id.

    Raises:
        StepwireError: FIELD_INVALID, naming `task_id`; so do the others here, naming theirs.
    """
    try:
        return UUID(text)
    except ValueError:
        raise field_invalid("task_id", f"{text[:80]!r} is not a UUID") from None


def check_request_id(
    text: str, *, field: str = "request_id", at_most: int = MAX_REQUEST_ID_CHARACTERS
) -> str:
    """Return a request id that keeps its limits."""
    return _check_text(text, field, at_most)


def check_labels(
    labels: Mapping[str, str], *, field: str, may_be_own: bool = False
) -> dict[str, str]:
    """Return labels that keep their limits, and if they are a user's, are no own ones."""
    if len(labels) > MAX_LABELS:
        raise field_invalid(field, f"{len(labels)} labels are more than {MAX_LABELS}")
    for key, value in labels.items():
        if not key or max(len(key), len(value)) > MAX_LABEL_CHARACTERS:
            raise field_invalid(
                f"{field}[{key[:40]!r}]",
                f"keys must have 1 and values at most {MAX_LABEL_CHARACTERS} characters",
            )
        _no_nul(key + value, field)
        if key.startswith(OWN_LABELS) and not may_be_own:
            raise field_invalid(f"{field}[{key[:40]!r}]", f"{OWN_LABELS}… are set by the server")
    return dict(labels)


def _check_text(text: str, field: str, at_most: int) -> str:
    if len(text) > at_most:
        raise field_invalid(field, f"must have at most {at_most} characters")
    return _no_nul(text, field)


def _no_nul(text: str, field: str) -> str:
    if "\0" in text:
        raise field_invalid(field, "must not hold the character U+0000")
    return text


def page_size_of(size: int, *, default: int = DEFAULT_PAGE_SIZE) -> int:
    """Return the number of entries on a page."""
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or default, MAX_PAGE_SIZE)


def page_token(task_id: UUID, wanted: TaskFilter, *, tenant_id: str) -> str:
    """Return the token of the page behind a task."""
    return _PAGES.make(_owner(tenant_id, wanted), str(task_id))


def page_start(token: str, wanted: TaskFilter, *, tenant_id: str) -> UUID | None:
    """Read a page token; None for the first page.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID, also for a token of another filter.
    """
    last = _PAGES.read(_owner(tenant_id, wanted), token)
    return UUID(last) if last else None


def position_token(
    position: Position | None, wanted: TaskFilter, action: Action, *, tenant_id: str
) -> str:
    """Return the token of what comes behind a position."""
    if position is None:
        return ""
    return _POSITIONS.make(
        _owner(tenant_id, wanted, action.name), f"{position.last} {position.end}"
    )


def position_of(
    token: str, wanted: TaskFilter, action: Action, *, tenant_id: str
) -> Position | None:
    """Read what `position_token` made; None for the beginning.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID, also for a token of another filter or action.
    """
    text = _POSITIONS.read(_owner(tenant_id, wanted, action.name), token)
    if not text:
        return None
    last, end = text.split()
    return Position(UUID(last), UUID(end))


def _owner(tenant_id: str, wanted: TaskFilter, *more: str) -> str:
    """Return what a token is bound to besides its list."""
    asked = hashlib.sha256(wanted.key.encode()).hexdigest()
    return "\0".join((tenant_id, asked, *more))


def state_of(state: int, *, field: str = "state") -> TaskState | None:
    """Read a state filter; None for any."""
    for name, number in task_pb2.TaskState.items():
        if number == state:
            return TaskState(name.removeprefix("TASK_STATE_")) if number else None
    raise field_invalid(field, f"{state} is not a state")


def filter_of(message: pb.TaskFilter, *, field: str = "filter") -> TaskFilter:
    """Read which tasks are wanted."""
    if message.workflow_version and not message.workflow:
        raise field_invalid(f"{field}.workflow", "must be set where workflow_version is")
    texts = {
        name: _check_text(getattr(message, name), f"{field}.{name}", MAX_FILTER_CHARACTERS)
        for name in ("workflow", "workflow_version", "failure_reason")
    }
    return TaskFilter(
        state=state_of(message.state, field=f"{field}.state"),
        labels=check_labels(message.labels, field=f"{field}.labels", may_be_own=True),
        **texts,
        created_from=_time_or_none(message, "created_from", field),
        created_before=_time_or_none(message, "created_before", field),
    )


def action_of(action: int) -> Action:
    """Read what is to be done with tasks."""
    for name, number in pb.TaskAction.items():
        if number == action and number:
            return Action[name.removeprefix("TASK_ACTION_")]
    raise field_invalid("action", "must be one of CANCEL, RETRY, FORK, PAUSE and RESUME")


def time_of(message: Timestamp, *, field: str) -> datetime:
    """Read a point in time."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise field_invalid(field, "is not a valid point in time") from None


def _time_or_none(message: pb.TaskFilter, name: str, field: str) -> datetime | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    return time_of(getattr(message, name), field=f"{field}.{name}")


def timeout_of(duration: Duration, *, limit: timedelta) -> timedelta:
    """Read a longest wait; unset or 0 means the limit."""
    timeout = span_of(duration, field="timeout")
    if timeout < timedelta(0):
        raise field_invalid("timeout", "must not be negative")
    return min(timeout or limit, limit)
