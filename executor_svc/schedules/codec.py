"""Between the messages of ScheduleService and its records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from executor_svc.graphs.durations import span_of
from executor_svc.schedules import rules
from executor_svc.schedules.records import Config, OverlapPolicy, Request, Run, Schedule
from executor_svc.schedules.registry import Edit, etag_of
from executor_svc.tasks.codec import write_failure
from executor_svc.tasks.fields import check_request_id, time_of
from stepwire import payload
from stepwire.api.common.v1.payload_pb2 import Payload
from stepwire.api.executor.v1 import schedule_service_pb2 as pb
from stepwire.errors import field_invalid
from stepwire.ids import uuid7
from stepwire.names import check_name
from stepwire.page_tokens import PageTokens

PAGES: Final = PageTokens("ListSchedules")

_POLICIES: Mapping[int, OverlapPolicy] = {
    pb.OverlapPolicy.Value(f"OVERLAP_POLICY_{policy}"): policy for policy in OverlapPolicy
}


def request_of(message: Any, *, tenant_id: str) -> Request | None:
    """Return what makes a repeated call known; None if it has no request_id.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    request_id = check_request_id(message.request_id)
    return Request(tenant_id, request_id, rules.digest_of(message)) if request_id else None


def schedule_of(message: pb.CreateScheduleRequest, *, tenant_id: str) -> Schedule:
    """Read a schedule that is to be created.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    config = message.config
    values: Any = {name: read(config) for name, read in _READERS.values()}
    return Schedule(
        schedule_id=uuid7(),
        tenant_id=tenant_id,
        name=check_name(message.name),
        config=Config(**values),
        paused=message.paused,
        note=rules.check_note(message.note),
    )


def edit_of(message: pb.UpdateScheduleRequest) -> Edit:
    """Read which fields of a configuration are to change, and into what.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    paths = list(message.update_mask.paths) or list(_READERS)
    for path in paths:
        if path not in _READERS:
            known = ", ".join(_READERS)
            raise field_invalid("update_mask", f"{path[:80]!r} must be one of {known}")
    values: Any = {name: read(message.config) for name, read in map(_READERS.__getitem__, paths)}
    return lambda config: replace(config, **values)


def policy_of(number: int) -> OverlapPolicy | None:
    """Read an overlap policy; None for unspecified.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if number and number not in _POLICIES:
        raise field_invalid("overlap_policy", f"{number} is not a policy")
    return _POLICIES.get(number)


def write_schedule(
    schedule: Schedule, next_times: Sequence[datetime], message: pb.Schedule
) -> None:
    """Write a schedule; what the record left out for a list is left out."""
    message.name = schedule.name
    _write_config(schedule.config, message.config)
    message.paused = schedule.paused
    message.note = schedule.note
    for time in next_times:
        message.next_times.add().FromDatetime(time)
    for run in schedule.recent:
        write_run(run, message.recent_runs.add())
    if schedule.last_task_id is not None:
        message.last_task_id = str(schedule.last_task_id)
    _write_time(schedule.buffered_at, message.buffered_time)
    # Unset for one that is only checked.
    if schedule.created_at is not None:
        message.schedule_id = str(schedule.schedule_id)
        message.etag = etag_of(schedule)
        _write_time(schedule.created_at, message.create_time)
        _write_time(schedule.updated_at, message.update_time)


def write_run(run: Run, message: pb.ScheduleRun) -> None:
    """Write what became of a firing."""
    _write_time(run.nominal_at, message.nominal_time)
    message.outcome = pb.ScheduleRunOutcome.Value(f"SCHEDULE_RUN_OUTCOME_{run.outcome}")
    if run.task_id is not None:
        message.task_id = str(run.task_id)
    if run.failure is not None:
        write_failure(run.failure, message.failure)
    _write_time(run.until_at, message.until_time)
    message.triggered = run.manual
    _write_time(run.recorded_at, message.record_time)


def _write_config(config: Config, message: pb.ScheduleConfig) -> None:
    message.cron = config.cron
    message.time_zone = config.time_zone
    if config.task:
        message.task.ParseFromString(config.task)
        _write_input(message.task.input)
    message.overlap_policy = pb.OverlapPolicy.Value(f"OVERLAP_POLICY_{config.overlap}")
    message.catch_up_window.FromTimedelta(config.catch_up_window)
    message.max_catch_up = config.max_catch_up
    _write_time(config.start_at, message.start_time)
    _write_time(config.end_at, message.end_time)
    if config.jitter:
        message.jitter.FromTimedelta(config.jitter)


def _write_input(value: Payload) -> None:
    """Give JSON that came as bytes its natural form."""
    if value.WhichOneof("value") == "data" and value.content_type in ("", payload.JSON):
        data = value.data
        value.Clear()
        payload.decode(data or payload.NULL, payload.JSON, value)


def _write_time(time: datetime | None, message: Timestamp) -> None:
    if time is not None:
        message.FromDatetime(time)


def _cron(config: pb.ScheduleConfig) -> str:
    if not config.cron.strip():
        raise field_invalid("config.cron", "must be set")
    return config.cron.strip()


def _task(config: pb.ScheduleConfig) -> bytes:
    task = config.task
    if task.WhichOneof("what") is None:
        raise field_invalid("config.task", "must have a graph or a workflow")
    for name, given in {
        "request_id": bool(task.request_id),
        "start_after": task.HasField("start_after"),
        "validate_only": task.validate_only,
    }.items():
        if given:
            raise field_invalid(f"config.task.{name}", "must be unset: each firing has its own")
    if len(task.labels) > rules.MAX_LABELS:
        raise field_invalid(
            "config.task.labels", f"{len(task.labels)} labels are more than {rules.MAX_LABELS}"
        )
    return task.SerializeToString(deterministic=True)


def _window(config: pb.ScheduleConfig) -> timedelta:
    window = span_of(config.catch_up_window, field="config.catch_up_window")
    if not window:
        return rules.DEFAULT_CATCH_UP_WINDOW
    if not rules.MIN_CATCH_UP_WINDOW <= window <= rules.MAX_CATCH_UP_WINDOW:
        raise field_invalid(
            "config.catch_up_window",
            f"must be from {rules.MIN_CATCH_UP_WINDOW.total_seconds():g} s to"
            f" {rules.MAX_CATCH_UP_WINDOW.days} days",
        )
    return window


def _most(config: pb.ScheduleConfig) -> int:
    if not 0 <= config.max_catch_up <= rules.MAX_CATCH_UP:
        raise field_invalid("config.max_catch_up", f"must be from 0 to {rules.MAX_CATCH_UP}")
    return config.max_catch_up or 1


def _jitter(config: pb.ScheduleConfig) -> timedelta:
    jitter = span_of(config.jitter, field="config.jitter")
    if not timedelta(0) <= jitter <= rules.MAX_JITTER:
        raise field_invalid("config.jitter", f"must be from 0 to {rules.MAX_JITTER.days} day")
    return jitter


def _overlap(config: pb.ScheduleConfig) -> OverlapPolicy:
    number = config.overlap_policy
    if number and number not in _POLICIES:
        raise field_invalid("config.overlap_policy", f"{number} is not a policy")
    return _POLICIES.get(number, OverlapPolicy.SKIP)


def _time(name: str) -> Callable[[pb.ScheduleConfig], datetime | None]:
    def read(config: pb.ScheduleConfig) -> datetime | None:
        if not config.HasField(name):  # type: ignore[arg-type]
            return None
        return time_of(getattr(config, name), field=f"config.{name}")

    return read


_READERS: Mapping[str, tuple[str, Callable[[pb.ScheduleConfig], object]]] = {
    "cron": ("cron", _cron),
    "time_zone": ("time_zone", lambda config: config.time_zone or "UTC"),
    "task": ("task", _task),
    "overlap_policy": ("overlap", _overlap),
    "catch_up_window": ("catch_up_window", _window),
    "max_catch_up": ("max_catch_up", _most),
    "start_time": ("start_at", _time("start_time")),
    "end_time": ("end_at", _time("end_time")),
    "jitter": ("jitter", _jitter),
}
"""How the fields of a configuration are read, by path: attribute and reader."""
