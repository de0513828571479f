"""What goes with every call to another service, and what is recorded of it."""

import time
from typing import Any, cast

import grpc
import grpc.aio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from stepwire.call import current_call
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import metadata
from stepwire.rpc.status import to_status
from stepwire.telemetry import durations, names, traceparent_of, tracer

# The called service must end first, so that its reason arrives in time to be passed on.
_MARGIN_SECONDS = 0.005


Headers = tuple[tuple[str, str | bytes], ...]


class CallRecorder:
    """Records the calls of one channel."""

    def __init__(self) -> None:
        self._duration = durations(
            names.RPC_CLIENT_DURATION,
            description="Duration of a call to another service, by method and status code.",
            attributes=(
                names.RPC_SYSTEM,
                names.RPC_METHOD,
                names.RPC_STATUS_CODE,
                names.ERROR_TYPE,
            ),
            bounds=names.RPC_DURATION_BUCKETS,
        )

    def start_span(self, method: str) -> Span:
        """Returns a span for a call that begins now."""
        return tracer().start_span(
            method,
            kind=SpanKind.CLIENT,
            attributes={names.RPC_SYSTEM: names.RPC_SYSTEM_GRPC, names.RPC_METHOD: method},
        )

    def end(self, *, method: str, span: Span, started: float, code: grpc.StatusCode) -> None:
        """Records a call that has ended.

        Args:
            method: As given to `start_span`.
            span: What `start_span` returned.
            started: When the call began, as `time.perf_counter()` told it.
            code: How it ended.
        """
        self._duration.record(
            time.perf_counter() - started,
            names.RPC_SYSTEM_GRPC,
            method,
            code.name,
            "" if code is grpc.StatusCode.OK else code.name,
        )
        if span.is_recording():
            span.set_attribute(names.RPC_STATUS_CODE, code.name)
            if code is not grpc.StatusCode.OK:
                span.set_attribute(names.ERROR_TYPE, code.name)
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class Method:
    """One method of a channel, of any shape: passes the current call's context on."""

    def __init__(
        self, name: str, callable_: Any, recorder: CallRecorder, headers: Headers = ()
    ) -> None:
        """Wraps a method.

        Args:
            name: As the stub gives it, "/package.Service/Method".
            callable_: gRPC's own callable for the method.
            recorder: The channel's.
            headers: Sent with each call, and written down nowhere.
        """
        self._name = name.removeprefix("/")
        self._callable = callable_
        self._recorder = recorder
        self._headers = headers

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        **options: Any,
    ) -> Any:
        """Begins a call; arguments and result are those of the wrapped callable.

        Args:
            request: The request, or an iterator of requests.
            timeout: In seconds; shortened to what the current call has left.
            metadata: Sent in addition, and before what the current call passes on.
            options: gRPC's others.

        Raises:
            grpc.aio.AioRpcError: DEADLINE_EXCEEDED, if the current call has no time
                left: gRPC itself would still send the request.
        """
        timeout = _timeout(timeout)
        if timeout is not None and timeout <= 0:
            raise _too_late()
        span = self._recorder.start_span(self._name)
        started = time.perf_counter()
        call = self._callable(
            request,
            timeout=timeout,
            metadata=_headers((*self._headers, *(metadata or ())), span),
            **options,
        )
        call.add_done_callback(
            lambda ended: self._recorder.end(
                method=self._name, span=span, started=started, code=_code(ended)
            )
        )
        return call


def _timeout(wanted: float | None) -> float | None:
    deadline = current_call().deadline
    if deadline is None:
        return wanted
    left = deadline - time.monotonic() - _MARGIN_SECONDS
    return left if wanted is None else min(wanted, left)


def _too_late() -> grpc.aio.AioRpcError:
    status = to_status(
        StepwireError(Reason.DEADLINE_EXCEEDED, "no time was left for a call to another service"),
        current_call().request_id,
    )
    return grpc.aio.AioRpcError(
        status.code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*status.trailing_metadata),
        status.details,
    )


def _headers(given: Headers, span: Span) -> Headers:
    current = current_call()
    headers = [*given, (metadata.TENANT_ID, current.tenant_id)]
    if current.request_id:
        headers.append((metadata.REQUEST_ID, current.request_id))
    # Also where nothing is recorded: the span then stands for the one around it, or the
    # current call names the trace.
    traceparent = traceparent_of(span.get_span_context()) or current.traceparent
    if traceparent:
        headers.append((metadata.TRACEPARENT, traceparent))
    return tuple(headers)


def _code(ended: grpc.aio.Call) -> grpc.StatusCode:
    # The code of a call that has ended is there without waiting, but only behind a
    # coroutine; a task for each call would cost more than all the rest here.
    answer = ended.code()
    try:
        answer.send(None)
    except StopIteration as stop:
        return cast("grpc.StatusCode", stop.value)
    raise AssertionError("gRPC called back before the call had ended")
