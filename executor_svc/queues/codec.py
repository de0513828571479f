"""Between the messages of QueueService and its records."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from executor_svc.graphs.durations import span_of
from executor_svc.queues.failures import FailurePage, Replay
from executor_svc.queues.ports import StepKey
from executor_svc.queues.queues import QueueView, ScalingView
from executor_svc.queues.records import FailedFilter, FailedStep, TenantWeight, WorkerRecord
from executor_svc.queues.signals import Aim, QueueSignals
from executor_svc.tasks import codec
from stepwire.api.executor.v1 import queue_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2, tenant_weight_pb2
from stepwire.errors import field_invalid
from stepwire.page_tokens import PageTokens

MAX_NOTE_CHARACTERS = 1000
MAX_NAME_CHARACTERS = 200
MAX_WEIGHT = 1000
# A task's id is added to it, and a colon.
MAX_REPLAY_ID_CHARACTERS = 80
MAX_QUEUES = 100
MAX_WORKERS = 1_000_000
MAX_REPLAYED_TASKS = 1000
DEFAULT_REPLAYED_TASKS = 100
SHORTEST_TARGET = timedelta(seconds=1)
LONGEST_TARGET = timedelta(days=1)

_FAILED_PAGES = PageTokens("ListFailedSteps")
_REPLAY_PAGES = PageTokens("ReplaySteps")
_WEIGHT_PAGES = PageTokens("ListTenantWeights")


def session_id_of(text: str) -> UUID:
    """Read the id of a worker's session."""
    return _uuid_of(text, "session_id")


def note_of(text: str) -> str:
    """Read a note."""
    return _text_of(text, "note", MAX_NOTE_CHARACTERS)


def queues_of(request: pb.GetScalingSignalsRequest) -> list[str]:
    """Read which queues are asked for, each once; none means all."""
    if len(request.queues) > MAX_QUEUES:
        raise field_invalid("queues", f"must have at most {MAX_QUEUES} entries")
    names = [request.queue, *request.queues] if request.queue else list(request.queues)
    return list(dict.fromkeys(names))


def aim_of(request: pb.GetScalingSignalsRequest, default: Aim) -> Aim:
    """Read what workers are to achieve."""
    target = span_of(request.target, field="target")
    if target and not SHORTEST_TARGET <= target <= LONGEST_TARGET:
        raise field_invalid("target", "must be from 1 second to 1 day")
    for name in ("min_workers", "max_workers"):
        if not 0 <= getattr(request, name) <= MAX_WORKERS:
            raise field_invalid(name, f"must be from 0 to {MAX_WORKERS}")
    if 0 < request.max_workers < request.min_workers:
        raise field_invalid("max_workers", "must not be less than min_workers")
    return replace(
        default,
        drain_seconds=target.total_seconds() or default.drain_seconds,
        min_workers=request.min_workers,
        max_workers=request.max_workers,
    )


def filter_of(message: pb.FailedStepFilter) -> FailedFilter:
    """Read which failed steps are selected."""
    return FailedFilter(
        reason=_name_of(message.reason, "filter.reason"),
        queue=_name_of(message.queue, "filter.queue"),
        workflow=_name_of(message.workflow, "filter.workflow"),
        failed_from=_time_of(message, "failed_from"),
        failed_before=_time_of(message, "failed_before"),
    )


def page_before(token: str, tenant_id: str) -> StepKey | None:
    """Read behind which step a page begins; None for the first page.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID.
    """
    last = _FAILED_PAGES.read(tenant_id, token)
    if not last:
        return None
    task_id, _, step_id = last.partition(" ")
    return UUID(task_id), step_id


def replay_after(token: str, tenant_id: str) -> UUID | None:
    """Read behind which task a replay goes on; None to begin.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID.
    """
    last = _REPLAY_PAGES.read(tenant_id, token)
    return UUID(last) if last else None


def replay_size_of(size: int) -> int:
    """Read how many tasks to replay at most."""
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or DEFAULT_REPLAYED_TASKS, MAX_REPLAYED_TASKS)


def replay_id_of(text: str) -> str:
    """Read the request_id of a replay."""
    return _text_of(text, "request_id", MAX_REPLAY_ID_CHARACTERS)


def replay_tasks_of(request: pb.ReplayStepsRequest) -> list[UUID]:
    """Read which tasks to replay; empty where a filter says it.

    Raises:
        StepwireError: FIELD_INVALID, unless there is either a list or a filter.
    """
    if len(request.task_ids) > MAX_REPLAYED_TASKS:
        raise field_invalid("task_ids", f"must have at most {MAX_REPLAYED_TASKS} entries")
    if request.task_ids and request.HasField("filter"):
        raise field_invalid("filter", "must not be given beside task_ids")
    if not request.task_ids and filter_of(request.filter) == FailedFilter():
        raise field_invalid("filter", "must have a condition, unless task_ids are given")
    return [_uuid_of(text, f"task_ids[{place}]") for place, text in enumerate(request.task_ids)]


def weight_of(request: tenant_weight_pb2.SetTenantWeightRequest) -> TenantWeight:
    """Read which weight a tenant is to have."""
    tenant_id = _text_of(request.tenant_id, "tenant_id", MAX_NAME_CHARACTERS)
    if not tenant_id:
        raise field_invalid("tenant_id", "is required")
    if not 0 <= request.weight <= MAX_WEIGHT:
        raise field_invalid("weight", f"must be from 1 to {MAX_WEIGHT}, or 0")
    return TenantWeight(tenant_id, request.weight or 1)


def weights_after(token: str) -> str:
    """Read behind which tenant a page begins; empty for the first page.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID.
    """
    return _WEIGHT_PAGES.read("", token)


def write_weights(
    weights: Sequence[TenantWeight],
    message: tenant_weight_pb2.ListTenantWeightsResponse,
    *,
    size: int,
) -> None:
    """Write a page of at most `size`; one more says that another page follows."""
    for weight in weights[:size]:
        message.tenants.add(tenant_id=weight.tenant_id, weight=weight.weight)
    if len(weights) > size:
        message.next_page_token = _WEIGHT_PAGES.make("", weights[size - 1].tenant_id)


def write_queue(view: QueueView, message: pb.Queue) -> None:
    """Write a queue."""
    message.queue = view.signals.queue
    write_signals(view.signals, message.signals)
    if view.paused_at is None:
        message.state = pb.QUEUE_STATE_ACTIVE
        return
    message.state = pb.QUEUE_STATE_DRAINING if view.signals.running else pb.QUEUE_STATE_PAUSED
    message.note = view.note
    message.pause_time.FromDatetime(view.paused_at)


def write_signals(signals: QueueSignals, message: pb.QueueSignals) -> None:
    """Write a queue's signals."""
    message.queue = signals.queue
    message.ready = signals.ready
    message.running = signals.running
    message.waiting = signals.waiting
    _write_seconds(signals.oldest_ready_seconds, message.oldest_ready_age)
    _write_seconds(signals.wait_seconds, message.time_to_start)
    message.arrival_rate = signals.arrival_rate
    message.completion_rate = signals.completion_rate
    message.failure_rate = signals.failure_rate
    _write_seconds(signals.service_seconds, message.service_time)
    message.workers = signals.pool.workers
    message.slots = signals.pool.slots
    message.busy_slots = signals.pool.busy
    message.slots_wanted = signals.slots_wanted
    message.workers_wanted = signals.workers_wanted


def write_scaling(view: ScalingView, message: pb.GetScalingSignalsResponse) -> None:
    """Write the signals of several queues."""
    message.workers_wanted = view.workers_wanted
    for signals in view.queues:
        write_signals(signals, message.queues.add())


def write_worker(worker: WorkerRecord, message: pb.Worker) -> None:
    """Write a worker."""
    message.session_id = str(worker.session_id)
    message.name = worker.name
    message.queues.extend(worker.queues)
    message.slots = worker.slots
    message.busy_slots = worker.busy
    message.version = worker.version
    message.start_time.FromDatetime(worker.started_at)
    message.lease_until.FromDatetime(worker.expires_at)
    message.draining = worker.draining


def write_failures(
    page: FailurePage, message: pb.ListFailedStepsResponse, *, tenant_id: str
) -> None:
    """Write a page of failed steps."""
    for step in page.steps:
        _write_failed(step, message.steps.add())
    for reason, steps in page.reasons.items():
        message.reasons.add(reason=reason, steps=steps)
    message.reasons_capped = page.capped
    if page.more:
        last = page.steps[-1]
        message.next_page_token = _FAILED_PAGES.make(tenant_id, f"{last.task_id} {last.step_id}")


def write_replay(replay: Replay, message: pb.ReplayStepsResponse, *, tenant_id: str) -> None:
    """Write what became of a replay."""
    message.tasks_replayed = replay.tasks
    message.steps_replayed = replay.steps
    for task_id, reason in replay.refused.items():
        message.refused[str(task_id)] = reason.value
    if replay.behind is not None:
        message.next_page_token = _REPLAY_PAGES.make(tenant_id, str(replay.behind))


def _write_failed(step: FailedStep, message: pb.FailedStep) -> None:
    message.task_id = str(step.task_id)
    message.step_id = step.step_id
    message.queue = step.queue
    message.workflow = step.workflow
    message.attempt = step.attempt
    codec.write_failure(step.failure, message.failure)
    message.end_time.FromDatetime(step.ended_at)
    message.task_state = task_pb2.TaskState.Value(f"TASK_STATE_{step.task_state}")


def _write_seconds(seconds: float | None, message: Duration) -> None:
    if seconds is not None:
        message.FromTimedelta(timedelta(seconds=seconds))


def _uuid_of(text: str, field: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise field_invalid(field, f"{text[:80]!r} is not a UUID") from None


def _name_of(text: str, field: str) -> str | None:
    return _text_of(text, field, MAX_NAME_CHARACTERS) or None


def _text_of(text: str, field: str, limit: int) -> str:
    if len(text) > limit:
        raise field_invalid(field, f"must have at most {limit} characters")
    if "\0" in text:
        raise field_invalid(field, "must not hold the character U+0000")
    return text


def _time_of(message: Message, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    time: Timestamp = getattr(message, name)
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (OverflowError, ValueError):
        raise field_invalid(f"filter.{name}", "is not a time") from None
