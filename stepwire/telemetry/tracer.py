"""A tracer that makes no spans where their trace is not sampled."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, Tracer

from stepwire.call import current_call
from stepwire.telemetry.traceparent import context_from_traceparent, is_sampled

_NO_SPAN = nullcontext(INVALID_SPAN)


class QuietTracer(Tracer):
    """Makes spans in sampled traces, and does next to nothing in others.

    A span that is given no context belongs to the current span; where there is none, to
    the current call's traceparent; and begins a trace where that is empty too.
    """

    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **options: Any
    ) -> Span:
        """Returns a span, or one that stands for the trace alone; see OpenTelemetry's."""
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            if not parent.trace_flags.sampled:
                return NonRecordingSpan(parent)
        elif context is None and (traceparent := current_call().traceparent):
            if not is_sampled(traceparent):
                return INVALID_SPAN
            context = context_from_traceparent(traceparent)
        return self._inner.start_span(name, context, *args, **options)

    def start_as_current_span(  # type: ignore[override]  # the base's is a decorator as well
        self,
        name: str,
        context: Context | None = None,
        *args: Any,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        **options: Any,
    ) -> AbstractContextManager[Span]:
        """Returns a block with `start_span`'s span as the current one; see OpenTelemetry's."""
        span = self.start_span(name, context, *args, **options)
        if span is INVALID_SPAN:
            return _NO_SPAN
        return trace.use_span(
            span,
            end_on_exit=True,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )
