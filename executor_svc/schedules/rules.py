"""Which schedules there may be, and how others are refused. Pure."""

import hashlib
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.message import Message

from executor_svc.schedules.cron import parse_cron
from executor_svc.schedules.records import Config
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.errors import Reason, StepwireError, field_invalid

DEFAULT_CATCH_UP_WINDOW: Final = timedelta(minutes=1)
# A firing is carried out a little after its time even when nothing is amiss.
MIN_CATCH_UP_WINDOW: Final = timedelta(seconds=10)
MAX_CATCH_UP_WINDOW: Final = timedelta(days=400)
MAX_CATCH_UP: Final = 100
MAX_JITTER: Final = timedelta(days=1)
MAX_NOTE_CHARACTERS: Final = 1000
# Two fewer than of any other task: each firing adds its own.
MAX_LABELS: Final = 14
NAME_LABEL: Final = "stepwire.schedule"
TIME_LABEL: Final = "stepwire.scheduled_time"


def check_note(note: str) -> str:
    """Return a note that keeps its limit.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if len(note) > MAX_NOTE_CHARACTERS or "\0" in note:
        raise field_invalid(
            "note", f"must have at most {MAX_NOTE_CHARACTERS} characters, none of them U+0000"
        )
    return note


def check_config(config: Config, *, min_interval: timedelta) -> None:
    """Check what several fields of a configuration say together.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    cron = parse_cron(config.cron, config.time_zone, field="config.cron")
    if cron.shortest_interval < min_interval:
        raise field_invalid(
            "config.cron",
            f"{config.cron!r} can fire every {cron.shortest_interval.total_seconds():g} s; the"
            f" shortest interval is {min_interval.total_seconds():g} s",
        )
    if config.start_at and config.end_at and config.end_at < config.start_at:
        raise field_invalid("config.end_time", "must not be before config.start_time")


def tasks_request(
    task: bytes, *, name: str, nominal_at: datetime, request_id: str
) -> CreateTaskRequest:
    """Return the request for the task of a firing."""
    request = CreateTaskRequest.FromString(task)
    request.request_id = request_id
    request.labels[NAME_LABEL] = name
    request.labels[TIME_LABEL] = nominal_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return request


def firing_id(schedule_id: UUID, nominal_at: datetime) -> str:
    """Return the request_id of the task of a firing: the same whoever carries it out."""
    return f"{_firing_prefix(schedule_id)}{nominal_at.isoformat()}"


def firing_ids_end(schedule_id: UUID) -> str:
    """Return what lies behind all that `firing_id` gives for a schedule."""
    return f"{_firing_prefix(schedule_id)}9"


def nominal_of(schedule_id: UUID, request_id: str) -> datetime:
    """Return the firing of which `firing_id` gave a request_id."""
    return datetime.fromisoformat(request_id.removeprefix(_firing_prefix(schedule_id)))


def _firing_prefix(schedule_id: UUID) -> str:
    return f"schedule:{schedule_id}:"


def digest_of(request: Message) -> bytes:
    """Return what tells a call from another one with the same request_id."""
    spec = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + spec).digest()


def not_found(name: str) -> StepwireError:
    """Return the error for a schedule that is not there."""
    return StepwireError(
        Reason.SCHEDULE_NOT_FOUND, f"there is no schedule {name!r}", metadata={"schedule": name}
    )


def exists(name: str) -> StepwireError:
    """Return the error for a name that is taken."""
    return StepwireError(
        Reason.SCHEDULE_EXISTS, f"schedule {name!r} exists already", metadata={"schedule": name}
    )


def changed(name: str, etag: str) -> StepwireError:
    """Return the error for a schedule that is no longer what the caller has read."""
    return StepwireError(
        Reason.SCHEDULE_CHANGED,
        f"schedule {name!r} was changed meanwhile; its etag is {etag}",
        metadata={"schedule": name, "etag": etag},
    )


def too_many(limit: int) -> StepwireError:
    """Return the error for one schedule more than a tenant may have."""
    return field_invalid("name", f"the tenant has {limit} schedules already, the most there may be")


def reused(request_id: str, schedule_id: UUID) -> StepwireError:
    """Return the error for a request_id that was used for something else."""
    return StepwireError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} was used for another request",
        metadata={"request_id": request_id, "schedule": str(schedule_id)},
    )
