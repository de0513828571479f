"""The spans of attempts; tasks that nobody traces cost none."""

from contextlib import AbstractContextManager

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from executor_svc.engine.records import Attempt, Failure
from executor_svc.graphs.graph import Step
from stepwire.telemetry import context_from_traceparent, names, tracer


def step_span(step: Step, attempt: Attempt) -> AbstractContextManager[Span]:
    """Return the span of an attempt."""
    return tracer().start_as_current_span(
        f"step {step.name}",
        context=context_from_traceparent(attempt.task.traceparent),
        kind=SpanKind.CONSUMER,
        attributes={
            names.TASK_ID: str(attempt.task.task_id),
            names.STEP_ID: attempt.step_id,
            names.STEP_KIND: step.kind,
            names.ATTEMPT: attempt.attempt,
            names.QUEUE: step.queue,
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def mark_failed(span: Span, failure: Failure) -> None:
    """Say in a span why its attempt failed."""
    span.set_status(Status(StatusCode.ERROR, failure.message))
    span.set_attribute(names.REASON, failure.reason)
