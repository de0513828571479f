"""Instruments of the executor and its workers."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Observation

from executor_svc.graph import Step
from executor_svc.records import Attempt, StepRef
from executor_svc.state_machine import Expanded, Failed, Outcome
from stepwire.telemetry import meter, names


class ExecutorMetrics:
    """What the executor service counts."""

    def __init__(self) -> None:
        self._accepted = meter().create_counter(names.TASKS_ACCEPTED, description="Tasks accepted.")
        self._swept = meter().create_counter(
            names.STEPS_SWEPT, description="Steps that a sweep has woken, by cause."
        )

    def accepted(self, count: int) -> None:
        """Count tasks accepted."""
        self._accepted.add(count)

    def swept(self, cause: str, count: int) -> None:
        """Count steps woken; `cause` is `session`, `retry` or `republish`."""
        if count:
            self._swept.add(count, {names.CAUSE: cause})


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, *, used_slots: Callable[[], int], slots: int) -> None:
        self._claims = meter().create_counter(
            names.STEPS_CLAIMED, description="Steps named by messages, by what came of them."
        )
        self._duration = meter().create_histogram(
            names.STEP_DURATION,
            unit="s",
            description="Duration of an attempt, by kind of step and outcome.",
            explicit_bucket_boundaries_advisory=names.STEP_DURATION_BUCKETS,
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

    def claimed(self, refs: Sequence[StepRef], attempts: Sequence[Attempt | None]) -> None:
        """Count the steps of a claim: those that were claimed, and those passed over."""
        claimed = sum(attempt is not None for attempt in attempts)
        self._claims.add(claimed, {names.RESULT: "claimed"})
        if claimed < len(refs):
            self._claims.add(len(refs) - claimed, {names.RESULT: "passed_over"})

    def finished(self, step: Step, outcome: Outcome, duration: timedelta) -> None:
        """Count an attempt that has ended."""
        match outcome:
            case Failed():
                result = "failed"
            case Expanded():
                result = "expanded"
            case _:
                result = "succeeded"
        self._duration.record(
            duration.total_seconds(), {names.STEP_KIND: step.kind, names.RESULT: result}
        )
