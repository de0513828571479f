"""Traces, metrics and logs.

What code uses to speak is here; what turns it on in a process, and needs the heavy
parts of the SDK, is `stepwire.telemetry.providers`.
"""

from stepwire.telemetry.durations import Durations, durations
from stepwire.telemetry.trace import (
    current_trace_id,
    inject_traceparent,
    meter,
    record_span,
    records_spans,
    span_within,
    tracer,
)
from stepwire.telemetry.traceparent import (
    context_from_traceparent,
    is_sampled,
    is_traceparent,
    link_to,
    parse_traceparent,
    sampled_trace_id,
    trace_id_of,
    traceparent_of,
)

__all__ = [
    "Durations",
    "context_from_traceparent",
    "current_trace_id",
    "durations",
    "inject_traceparent",
    "is_sampled",
    "is_traceparent",
    "link_to",
    "meter",
    "parse_traceparent",
    "record_span",
    "records_spans",
    "sampled_trace_id",
    "span_within",
    "trace_id_of",
    "traceparent_of",
    "tracer",
]
