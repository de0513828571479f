"""Spans, and the W3C traceparent that carries a trace from process to process."""

import re
from collections.abc import Mapping
from functools import cache

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.util.types import AttributeValue

_SCOPE = "stepwire"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_UNKNOWN_VERSION = "ff"
_NANOSECONDS = 1_000_000_000


@cache
def tracer() -> trace.Tracer:
    """Returns the tracer of all Stepwire code; it records nothing before `setup`."""
    return trace.get_tracer(_SCOPE)


@cache
def meter() -> metrics.Meter:
    """Returns the meter of all Stepwire code; its instruments do nothing before `setup`."""
    return metrics.get_meter(_SCOPE)


def traceparent_of(context: SpanContext) -> str:
    """Returns a span context as a W3C traceparent, "" if it is not valid."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def inject_traceparent() -> str:
    """Returns the current span as a W3C traceparent, "" if there is none."""
    return traceparent_of(trace.get_current_span().get_span_context())


def context_from_traceparent(traceparent: str) -> Context:
    """Returns a context whose current span is the remote one named by a traceparent.

    An empty or malformed traceparent gives an empty context, i.e. a new trace: what
    a caller sends must not break the call.
    """
    span_context = parse_traceparent(traceparent)
    if span_context is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def parse_traceparent(traceparent: str) -> SpanContext | None:
    """Returns the remote span that a traceparent names; None if it names none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or match[1] == _UNKNOWN_VERSION or (match[1] == "00" and match[5]):
        return None
    context = SpanContext(
        trace_id=int(match[2], 16),
        span_id=int(match[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[4], 16) & TraceFlags.SAMPLED),
    )
    return context if context.is_valid else None


def link_to(traceparent: str) -> list[Link]:
    """Returns a link to the span that a traceparent names, or no link if it names none."""
    context = parse_traceparent(traceparent)
    return [] if context is None else [Link(context)]


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
