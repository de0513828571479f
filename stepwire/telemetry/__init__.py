"""Traces, metrics and logs.

What code uses to speak is here; what turns it on in a process, and needs the heavy
parts of the SDK, is `stepwire.telemetry.providers`.
"""

from stepwire.telemetry.trace import (
    context_from_traceparent,
    inject_traceparent,
    link_to,
    meter,
    parse_traceparent,
    record_span,
    traceparent_of,
    tracer,
)

__all__ = [
    "context_from_traceparent",
    "inject_traceparent",
    "link_to",
    "meter",
    "parse_traceparent",
    "record_span",
    "traceparent_of",
    "tracer",
]
