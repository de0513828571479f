"""One server span per call of a sampled trace, as a child of the caller's."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from stepwire.call import CallInfo, enter_call
from stepwire.rpc import metadata
from stepwire.rpc.interceptors.chain import Call, CallFailed, outcome
from stepwire.telemetry import context_from_traceparent, names, traceparent_of, tracer

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


@contextmanager
def tracing(call: Call) -> Iterator[None]:
    """Makes the call's span the current one.

    Health and reflection get none, nor do the calls of a trace that is not sampled: the
    call's context names it instead.
    """
    if call.method.infrastructure or call.info.traceparent:
        yield
        return
    parent = context_from_traceparent(call.text(metadata.TRACEPARENT))
    span = tracer().start_span(
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
    if not span.is_recording():
        _name_trace(call, traceparent_of(span.get_span_context()))
        yield
        return
    token = otel_context.attach(set_span_in_context(span, parent))
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        otel_context.detach(token)
        code = outcome(call, error)
        span.set_attribute(names.RPC_STATUS_CODE, code.name)
        if isinstance(error, CallFailed):
            span.set_attribute(names.REASON, error.error.reason.value)
        if code in SERVER_FAULTS:
            span.set_attribute(names.ERROR_TYPE, code.name)
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def _name_trace(call: Call, traceparent: str) -> None:
    call.info = CallInfo(
        tenant_id=call.info.tenant_id,
        request_id=call.info.request_id,
        deadline=call.info.deadline,
        traceparent=traceparent,
    )
    enter_call(call.info)
