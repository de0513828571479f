"""The W3C traceparent, which carries a trace from process to process."""

import re

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_UNKNOWN_VERSION = "ff"
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
# The place of the digit that has the sampled flag, and the digits in which it is set.
_TRACE_ID = slice(3, 35)
_FLAG = slice(54, 55)
_SAMPLED = frozenset("13579bdf")


def is_sampled(traceparent: str) -> bool:
    """Returns whether the trace of a traceparent is recorded; costs next to nothing.

    One that is empty names no trace.
    """
    return traceparent[_FLAG] in _SAMPLED


def is_traceparent(text: str) -> bool:
    """Returns whether a text names a span."""
    return _match(text) is not None


def trace_id_of(traceparent: str) -> str:
    """Returns the trace's id as 32 hex digits, "" if a traceparent names no span."""
    match = _match(traceparent)
    return "" if match is None else match[2]


def sampled_trace_id(traceparent: str) -> str:
    """Returns the trace's id if the trace is recorded, else ""; costs next to nothing."""
    return traceparent[_TRACE_ID] if is_sampled(traceparent) else ""


def traceparent_of(context: SpanContext) -> str:
    """Returns a span context as a W3C traceparent, "" if it is not valid."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parse_traceparent(traceparent: str) -> SpanContext | None:
    """Returns the remote span that a traceparent names; None if it names none."""
    match = _match(traceparent)
    if match is None:
        return None
    return SpanContext(
        trace_id=int(match[2], 16),
        span_id=int(match[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[4], 16) & TraceFlags.SAMPLED),
    )


def context_from_traceparent(traceparent: str) -> Context:
    """Returns a context whose current span is the remote one named by a traceparent.

    An empty or malformed traceparent gives an empty context, i.e. a new trace: what
    a caller sends must not break the call.
    """
    span_context = parse_traceparent(traceparent)
    if span_context is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def link_to(traceparent: str) -> list[Link]:
    """Returns a link to the span that a traceparent names, or no link if it names none."""
    context = parse_traceparent(traceparent)
    return [] if context is None else [Link(context)]


def _match(text: str) -> re.Match[str] | None:
    match = _TRACEPARENT.fullmatch(text) if text else None
    if match is None or match[2] == _NO_TRACE or match[3] == _NO_SPAN:
        return None
    if match[1] == _UNKNOWN_VERSION or (match[1] == "00" and match[5]):
        return None
    return match
