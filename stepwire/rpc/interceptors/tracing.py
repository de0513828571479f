"""One server span per call, as a child of the caller's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from stepwire.rpc import metadata
from stepwire.rpc.interceptors.chain import Call, CallFailed, outcome
from stepwire.telemetry import context_from_traceparent, names, tracer

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


@asynccontextmanager
async def tracing(call: Call) -> AsyncIterator[None]:
    """Makes the call's span the current one; health and reflection get none."""
    if call.method.infrastructure:
        yield
        return
    parent = context_from_traceparent(call.text(metadata.TRACEPARENT))
    span = tracer().start_span(
        call.method.name,
        context=parent,
        kind=SpanKind.SERVER,
        attributes={
            names.RPC_SYSTEM: names.RPC_SYSTEM_GRPC,
            names.RPC_METHOD: call.method.name,
            names.REQUEST_ID: call.info.request_id,
            names.TENANT_ID: call.info.tenant_id,
        },
    )
    token = otel_context.attach(set_span_in_context(span, parent))
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        otel_context.detach(token)
        if span.is_recording():
            code = outcome(call, error)
            span.set_attribute(names.RPC_STATUS_CODE, code.name)
            if isinstance(error, CallFailed):
                span.set_attribute(names.REASON, error.error.reason.value)
            if code in SERVER_FAULTS:
                span.set_attribute(names.ERROR_TYPE, code.name)
                span.set_status(Status(StatusCode.ERROR))
        span.end()
