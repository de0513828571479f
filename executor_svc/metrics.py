"""Instruments of the executor and its workers."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from opentelemetry.metrics import CallbackOptions, Observation

from executor_svc.queues.queues import QueueView
from stepwire.telemetry import durations, meter, names


class ExecutorMetrics:
    """What the executor service counts."""

    def __init__(self) -> None:
        self._accepted = meter().create_counter(names.TASKS_ACCEPTED, description="Tasks accepted.")
        self._accepted.add(0)

    def accepted(self, count: int) -> None:
        """Count tasks accepted."""
        self._accepted.add(count)


class SweepMetrics:
    """What the sweeper counts."""

    def __init__(self) -> None:
        self._lag = 0.0
        self._swept = meter().create_counter(
            names.STEPS_SWEPT, description="Steps that a sweep has woken or ended, by cause."
        )
        self._sweeps = meter().create_counter(
            names.SWEEPS, description="Sweeps, by whether they came to their end."
        )
        # What begins with its first event has no growth that would tell of it.
        for cause in ("session", "due", "expired", "republish"):
            self._swept.add(0, {names.CAUSE: cause})
        for result in ("done", "failed"):
            self._sweeps.add(0, {names.RESULT: result})
        meter().create_observable_gauge(
            names.TIMER_LAG,
            [self._observe_lag],
            unit="s",
            description="For how long a wait was over that the last sweep has left; 0 if none was.",
        )

    def swept(self, cause: str, count: int) -> None:
        """Count steps woken, or ended; `cause` is `session`, `due`, `expired` or `republish`."""
        if count:
            self._swept.add(count, {names.CAUSE: cause})

    def done(self, *, lag: timedelta) -> None:
        """Count a sweep that came to its end; `lag` is how long ago what it left was due."""
        self._lag = max(0.0, lag.total_seconds())
        self._sweeps.add(1, {names.RESULT: "done"})

    def failed(self) -> None:
        """Count a sweep that did not come to its end."""
        self._sweeps.add(1, {names.RESULT: "failed"})

    def _observe_lag(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._lag)


class TaskMetrics:
    """What commits say of tasks: how they end, after what time, and what is tried again.

    Each commit is told by the process that made it, executor or worker: add them up.
    """

    def __init__(self) -> None:
        self._duration = durations(
            names.TASK_DURATION,
            description="Time from a task's acceptance to its end, by how it ended.",
            attributes=(names.RESULT,),
            bounds=names.TASK_DURATION_BUCKETS,
        )
        self._retried = meter().create_counter(
            names.STEPS_RETRIED, description="Attempts that failed and are made again."
        )
        self._retried.add(0)
        for result in ("succeeded", "failed", "cancelled"):
            self._duration.show(result)

    def ended(self, result: str, after: timedelta) -> None:
        """Count a task's end; `result` is `succeeded`, `failed` or `cancelled`."""
        # Not below 0: their clocks are this cluster's and Postgres's.
        self._duration.record(max(0.0, after.total_seconds()), result)

    def retried(self, count: int) -> None:
        """Count attempts that failed and are made again."""
        self._retried.add(count)


class RelayMetrics:
    """What the relay counts."""

    def __init__(self) -> None:
        self._delay = meter().create_histogram(
            names.NOTICE_DELAY,
            unit="s",
            description="Time from a notice's commit to its being carried out, by kind.",
            explicit_bucket_boundaries_advisory=names.RPC_DURATION_BUCKETS,
        )
        self._postponed = meter().create_counter(
            names.NOTICES_POSTPONED,
            description="Notices that could not be carried out, and come again, by kind.",
        )

    def carried_out(self, kind: str, delay: timedelta) -> None:
        """Count a notice that is done with."""
        self._delay.record(max(0.0, delay.total_seconds()), {names.CAUSE: kind})

    def postponed(self, kind: str) -> None:
        """Count a failure."""
        self._postponed.add(1, {names.CAUSE: kind})


class SubscriptionMetrics:
    """What becomes of events that a subscription wants."""

    def __init__(self) -> None:
        self._events = meter().create_counter(
            names.SUBSCRIPTION_EVENTS,
            description="Events that a subscription wants, by what came of them.",
        )

    def event(self, result: str) -> None:
        """Count an event; `result` is `webhook`, `handler`, `too_deep` or `refused`."""
        self._events.add(1, {names.RESULT: result})


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, *, used_slots: Callable[[], int], slots: int) -> None:
        self._claims = meter().create_counter(
            names.STEPS_CLAIMED, description="Steps named by messages, by what came of them."
        )
        for result in ("claimed", "passed_over"):
            self._claims.add(0, {names.RESULT: result})
        self._duration = durations(
            names.STEP_DURATION,
            description="Duration of an attempt, by kind of step and outcome.",
            attributes=(names.STEP_KIND, names.RESULT),
            bounds=names.STEP_DURATION_BUCKETS,
        )

        def observe_used(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(used_slots())

        def observe_total(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(slots)

        meter().create_observable_gauge(
            names.WORKER_SLOTS_USED, [observe_used], description="Steps in flight."
        )
        meter().create_observable_gauge(
            names.WORKER_SLOTS, [observe_total], description="Most steps in flight."
        )

    def claimed(self, named: int, claimed: int) -> None:
        """Count the steps of a claim: those that messages named, and those claimed."""
        self._claims.add(claimed, {names.RESULT: "claimed"})
        if claimed < named:
            self._claims.add(named - claimed, {names.RESULT: "passed_over"})

    def finished(self, kind: str, result: str, seconds: float, *, trace_id: str) -> None:
        """Count an attempt of a kind of step that has ended; `trace_id` if its trace is kept."""
        self._duration.record(seconds, kind, result, trace_id=trace_id)


class QueueMetrics:
    """How busy the queues are: gauges by queue, of what was told last.

    Every instance of the executor tells the same of all queues: take one, or the maximum.
    """

    def __init__(self) -> None:
        self._views: Sequence[QueueView] = ()
        for name, unit, description, value in _QUEUE_GAUGES:
            meter().create_observable_gauge(
                name, [partial(self._observe, value)], unit=unit, description=description
            )

    def update(self, views: Sequence[QueueView]) -> None:
        """Tell how busy the queues are; none when it is not known."""
        self._views = views

    def _observe(
        self, value: Callable[[QueueView], float | None], _: CallbackOptions
    ) -> Iterable[Observation]:
        for view in self._views:
            if (number := value(view)) is not None:
                yield Observation(number, {names.QUEUE: view.signals.queue})


_QUEUE_GAUGES: Sequence[tuple[str, str, str, Callable[[QueueView], float | None]]] = (
    (names.QUEUE_READY, "", "Steps that could start.", lambda view: view.signals.ready),
    (names.QUEUE_RUNNING, "", "Steps that run.", lambda view: view.signals.running),
    (
        names.QUEUE_WAITING,
        "",
        "Steps that wait for a time.",
        lambda view: view.signals.waiting,
    ),
    (
        names.QUEUE_OLDEST_READY,
        "s",
        "For how long the step that has been ready longest has been so; 0 without any.",
        lambda view: view.signals.oldest_ready_seconds or 0.0,
    ),
    (
        names.QUEUE_TIME_TO_START,
        "s",
        "Mean time from ready to start over the last minute.",
        lambda view: view.signals.wait_seconds,
    ),
    (
        names.QUEUE_SERVICE_TIME,
        "s",
        "Mean time for which an attempt holds its slot.",
        lambda view: view.signals.service_seconds,
    ),
    (
        names.QUEUE_ARRIVAL_RATE,
        "",
        "Steps per second that became ready, over the last minute.",
        lambda view: view.signals.arrival_rate,
    ),
    (
        names.QUEUE_COMPLETION_RATE,
        "",
        "Attempts per second that ended, over the last minute.",
        lambda view: view.signals.completion_rate,
    ),
    (
        names.QUEUE_FAILURE_RATE,
        "",
        "Attempts per second that failed, over the last minute.",
        lambda view: view.signals.failure_rate,
    ),
    (names.QUEUE_WORKERS, "", "Workers that serve it.", lambda view: view.signals.pool.workers),
    (names.QUEUE_SLOTS, "", "Slots of these workers.", lambda view: view.signals.pool.slots),
    (
        names.QUEUE_SLOTS_USED,
        "",
        "Slots of these workers that are taken, by steps of any queue.",
        lambda view: view.signals.pool.busy,
    ),
    (
        names.QUEUE_WORKERS_WANTED,
        "",
        "Workers that would drain the backlog in the target time.",
        lambda view: view.signals.workers_wanted,
    ),
    (
        names.QUEUE_PAUSED,
        "",
        "1 while the queue is paused, else 0.",
        lambda view: int(view.paused_at is not None),
    ),
)
