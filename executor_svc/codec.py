"""Between the executor's messages and its records."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from executor_svc.creator import Accepted, Submission
from executor_svc.durations import span_of
from executor_svc.records import Failure, StepRecord, TaskEvent, TaskRecord, TaskState
from executor_svc.tasks import TaskView
from stepwire import payload
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import field_invalid
from stepwire.page_tokens import PageTokens
from stepwire.telemetry import parse_traceparent

MAX_LABELS = 16
MAX_LABEL_CHARACTERS = 128
MAX_REQUEST_ID_CHARACTERS = 128
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

_PAGES = PageTokens("ListTasks")


def task_id_of(text: str) -> UUID:
    """Read a task id.

    Raises:
        StepwireError: FIELD_INVALID, naming `task_id`.
    """
    try:
        return UUID(text)
    except ValueError:
        raise field_invalid("task_id", f"{text[:80]!r} is not a UUID") from None


def check_request_id(text: str, *, field: str = "request_id") -> str:
    """Return a request id that keeps its limits."""
    if len(text) > MAX_REQUEST_ID_CHARACTERS:
        raise field_invalid(field, f"must have at most {MAX_REQUEST_ID_CHARACTERS} characters")
    return _no_nul(text, field)


def check_labels(labels: Mapping[str, str], *, field: str) -> dict[str, str]:
    """Return labels that keep their limits."""
    if len(labels) > MAX_LABELS:
        raise field_invalid(field, f"{len(labels)} labels are more than {MAX_LABELS}")
    for key, value in labels.items():
        if not key or max(len(key), len(value)) > MAX_LABEL_CHARACTERS:
            raise field_invalid(
                f"{field}[{key[:40]!r}]",
                f"keys must have 1 and values at most {MAX_LABEL_CHARACTERS} characters",
            )
        _no_nul(key + value, field)
    return dict(labels)


def _no_nul(text: str, field: str) -> str:
    if "\0" in text:
        raise field_invalid(field, "must not hold the character U+0000")
    return text


def page_size_of(size: int) -> int:
    """Return the number of tasks on a page."""
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(task_id: UUID, *, tenant_id: str) -> str:
    """Return the token of the page behind a task."""
    return _PAGES.make(tenant_id, str(task_id))


def page_start(token: str, *, tenant_id: str) -> UUID | None:
    """Read a page token; None for the first page.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID.
    """
    last = _PAGES.read(tenant_id, token)
    return UUID(last) if last else None


def state_of(state: int) -> TaskState | None:
    """Read a state filter; None for any."""
    for name, number in task_pb2.TaskState.items():
        if number == state:
            return TaskState(name.removeprefix("TASK_STATE_")) if number else None
    raise field_invalid("state", f"{state} is not a state")


def timeout_of(duration: Duration, *, limit: timedelta) -> timedelta:
    """Read a longest wait; unset or 0 means the limit."""
    timeout = span_of(duration, field="timeout")
    if timeout < timedelta(0):
        raise field_invalid("timeout", "must not be negative")
    return min(timeout or limit, limit)


def write_task(view: TaskView, message: task_pb2.Task, *, full: bool = False) -> None:
    """Write a task; `full` adds its input."""
    task = view.task
    message.task_id = str(task.task_id)
    message.tenant_id = task.tenant_id
    message.state = task_pb2.TaskState.Value(f"TASK_STATE_{task.state}")
    _write_time(task.created_at, message.create_time)
    _write_time(task.started_at, message.start_time)
    _write_time(task.ended_at, message.end_time)
    message.labels.update(task.labels)
    if view.output is not None:
        payload.decode(view.output.data, view.output.content_type, message.output)
    if task.state == TaskState.FAILED and task.failure is not None:
        write_failure(task.failure, message.failure)
    message.trace_id = _trace_id(task.traceparent)
    message.last_cursor = task.last_cursor
    if full and task.input is not None:
        payload.decode(task.input.data, task.input.content_type, message.input)
    for step in view.steps:
        _write_step(step, message.steps.add())


def write_accepted(submission: Submission, accepted: Accepted, message: task_pb2.Task) -> None:
    """Write a task that was accepted just now."""
    message.task_id = str(accepted.task_id)
    message.tenant_id = submission.tenant_id
    message.state = task_pb2.TASK_STATE_PENDING
    _write_time(accepted.created_at, message.create_time)
    message.labels.update(submission.labels)
    message.trace_id = _trace_id(submission.traceparent)
    message.last_cursor = 1


def write_summary(task: TaskRecord, message: task_pb2.Task) -> None:
    """Write a task as lists show it."""
    write_task(TaskView(task), message)


def _write_step(step: StepRecord, message: task_pb2.StepRun) -> None:
    message.step_id = step.step_id
    message.state = task_pb2.StepState.Value(f"STEP_STATE_{step.state}")
    message.attempt = step.attempt
    message.queue = step.queue
    _write_time(step.started_at, message.start_time)
    _write_time(step.ended_at, message.end_time)
    if step.output is not None:
        payload.decode(step.output.data, step.output.content_type, message.output)
    if step.failure is not None:
        write_failure(step.failure, message.failure)
    _write_time(step.due_at, message.next_attempt_time)


def write_failure(failure: Failure, message: task_pb2.Failure) -> None:
    """Write a failure."""
    message.reason = failure.reason
    message.message = failure.message
    message.metadata.update(failure.metadata)
    message.step_id = failure.step_id


def write_event(event: TaskEvent, message: task_pb2.TaskEvent) -> None:
    """Write an event."""
    message.task_id = str(event.task_id)
    message.cursor = event.cursor
    message.type = event.type  # type: ignore[assignment]
    _write_time(event.recorded_at, message.time)
    message.step_id = event.step_id
    message.attempt = event.attempt
    if "reason" in event.detail:
        write_failure(Failure.from_json(event.detail), message.failure)
    elif event.detail:
        payload.json_to_struct(dict(event.detail), message.detail)


def _trace_id(traceparent: str) -> str:
    trace = parse_traceparent(traceparent)
    return "" if trace is None else f"{trace.trace_id:032x}"


def _write_time(time: datetime | None, message: Timestamp) -> None:
    if time is not None:
        message.FromDatetime(time)
