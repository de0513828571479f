"""Spans, as all of Stepwire's code makes them.

A trace that is not sampled costs no spans: it is known by its traceparent alone, which
the current call holds (`stepwire.call`) and passes on.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from opentelemetry import metrics, trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from stepwire.call import current_call
from stepwire.telemetry.traceparent import context_from_traceparent, is_sampled, traceparent_of
from stepwire.telemetry.tracer import QuietTracer

_SCOPE = "stepwire"
_NANOSECONDS = 1_000_000_000
_NO_SPAN = nullcontext(INVALID_SPAN)


@cache
def tracer() -> trace.Tracer:
    """Returns the tracer of all Stepwire code; it records nothing before `setup`."""
    return QuietTracer(trace.get_tracer(_SCOPE))


def records_spans() -> bool:
    """Returns whether the process records any spans: whether they have been turned on by now."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current_trace_id() -> str:
    """Returns the id of the trace that is being recorded here, "" if none is."""
    span = trace.get_current_span()
    return f"{span.get_span_context().trace_id:032x}" if span.is_recording() else ""


@cache
def meter() -> metrics.Meter:
    """Returns the meter of all Stepwire code; its instruments do nothing before `setup`."""
    return metrics.get_meter(_SCOPE)


def inject_traceparent() -> str:
    """Returns the current span as a W3C traceparent.

    Without one, the current call's; "" if it has none.
    """
    context = trace.get_current_span().get_span_context()
    return traceparent_of(context) if context.is_valid else current_call().traceparent


def span_within(
    traceparent: str,
    name: str,
    *,
    attributes: Callable[[], Mapping[str, AttributeValue]],
    kind: SpanKind = SpanKind.INTERNAL,
) -> AbstractContextManager[Span]:
    """Returns a block that is a span of a trace, the current one within it.

    Where the trace is not sampled, it does nothing and takes less than a microsecond; the
    block's calls pass the trace on if the traceparent is also the current call's (see
    `stepwire.call.call_context`). An exception that leaves the block is not recorded.

    Args:
        traceparent: The span above.
        name: The span's name; few different ones.
        attributes: Gives what to say about it; called only if it is recorded.
        kind: Its part in a call.
    """
    if not is_sampled(traceparent):
        return _NO_SPAN
    return tracer().start_as_current_span(
        name,
        context=context_from_traceparent(traceparent),
        kind=kind,
        attributes=attributes(),
        record_exception=False,
        set_status_on_exception=False,
    )


def record_span(
    name: str,
    *,
    parent: str,
    start_seconds: float,
    end_seconds: float,
    attributes: Mapping[str, AttributeValue] | None = None,
    error: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Span:
    """Records a span that has already ended, without making it current.

    Cheaper than a context manager where one loop handles many pieces of work and
    their times are known anyway.

    Args:
        name: The span's name; few different ones.
        parent: The traceparent of the span above; "" begins a new trace.
        start_seconds: When it began, as `time.time()` tells it.
        end_seconds: When it ended, likewise.
        attributes: What to say about it.
        error: What went wrong; None if nothing did.
        kind: Its part in a call.

    Returns:
        The ended span, e.g. to be linked to.
    """
    span = tracer().start_span(
        name,
        context=context_from_traceparent(parent),
        kind=kind,
        attributes=attributes,
        start_time=int(start_seconds * _NANOSECONDS),
    )
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(end_time=int(end_seconds * _NANOSECONDS))
    return span
