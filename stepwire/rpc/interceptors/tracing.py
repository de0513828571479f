"""One server span per call of a sampled trace, as a child of the caller's."""

import grpc
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from stepwire.call import CallInfo, enter_call
from stepwire.rpc import metadata
from stepwire.rpc.interceptors.chain import Call, CallFailed, Leave, outcome
from stepwire.telemetry import (
    context_from_traceparent,
    names,
    records_spans,
    traceparent_of,
    tracer,
)

# The codes that are the server's fault; the others are the caller's, or its wish.
SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing:
    """Makes the call's span the current one.

    Health and reflection get none, nor do the calls of a trace that is not sampled: the
    call's context names it instead. In a process that records no spans, no traces begin.
    """

    def __init__(self) -> None:
        self._begins_traces = records_spans()

    def __call__(self, call: Call) -> Leave | None:
        """Begins the span, if there is to be one; it ends with the call."""
        if call.method.infrastructure or call.info.traceparent:
            return None
        traceparent: str = call.metadata.get(metadata.TRACEPARENT, "")
        if not traceparent and not self._begins_traces:
            return None
        parent = context_from_traceparent(traceparent)
        span = _begin(call, parent)
        if not span.is_recording():
            _name_trace(call, traceparent_of(span.get_span_context()))
            return None
        token = otel_context.attach(set_span_in_context(span, parent))

        def end(call: Call, error: BaseException | None) -> None:
            otel_context.detach(token)
            _end(span, call, error)

        return end


def _begin(call: Call, parent: Context) -> Span:
    return tracer().start_span(
        call.method.name,
        context=parent,
        kind=SpanKind.SERVER,
        attributes={
            names.RPC_SYSTEM: call.method.system,
            names.RPC_METHOD: call.method.name,
            names.REQUEST_ID: call.info.request_id,
            names.TENANT_ID: call.info.tenant_id,
        },
    )


def _end(span: Span, call: Call, error: BaseException | None) -> None:
    code = outcome(call, error)
    span.set_attribute(names.RPC_STATUS_CODE, code.name)
    if isinstance(error, CallFailed):
        span.set_attribute(names.REASON, error.error.reason.value)
    if code in SERVER_FAULTS:
        span.set_attribute(names.ERROR_TYPE, code.name)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _name_trace(call: Call, traceparent: str) -> None:
    known = call.info
    call.info = CallInfo(known.tenant_id, known.request_id, known.deadline, traceparent)
    enter_call(call.info)
