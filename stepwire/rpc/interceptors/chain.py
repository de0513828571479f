"""Applies a list of concerns to a method, whatever its shape.

A concern is a function that is called when a call begins, and returns what is to be called
when it ends, if anything is. None of them waits for anything, so one loop runs them all.
This module is the only place that knows the four call shapes.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from stepwire.call import CallInfo
from stepwire.errors import StepwireError, field_invalid
from stepwire.rpc.status import code_of, to_status
from stepwire.telemetry import names

# Names of services whose calls say nothing about the work of the server.
_INFRASTRUCTURE = ("grpc.health.", "grpc.reflection.")
_NOBODY = CallInfo()
# For how long a caller whose stream is refused is read on; see `_hear_out`.
HEAR_OUT_SECONDS = 1.0
# For how long one is who waits for answers, and may send nothing more until they come.
FALL_SILENT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Method:
    """What is known of a method before any call.

    Attributes:
        name: The full name without the leading slash, "package.Service/Method".
        streams_requests: Whether the caller sends many messages.
        streams_responses: Whether the server answers with many messages.
        infrastructure: Whether it is of health or reflection.
        system: By what it is called, as telemetry names it.
    """

    name: str
    streams_requests: bool
    streams_responses: bool
    infrastructure: bool
    system: str = names.RPC_SYSTEM_GRPC

    @property
    def is_stream(self) -> bool:
        """Whether it lasts for as long as either side has something to send."""
        return self.streams_requests or self.streams_responses


class CallContext(Protocol):
    """What the concerns need of what carries a call: gRPC, or HTTP beside it."""

    def invocation_metadata(self) -> Any:
        """Returns what the caller sent, as pairs."""
        ...

    def set_trailing_metadata(self, trailing_metadata: Any, /) -> None:
        """Sends pairs with the answer."""
        ...

    def peer(self) -> str:
        """Returns who calls."""
        ...

    def time_remaining(self) -> float | None:
        """Returns how long the caller still waits, in seconds; None for as long as it takes."""
        ...

    def code(self) -> Any:
        """Returns the code that was set for the answer, if one was."""
        ...


class Call:
    """One call under way, as the concerns see it.

    Attributes:
        method: Which method is called.
        context: What carries the call.
        metadata: What the caller sent, the first value of each key: text, but bytes for a key
            that ends with "-bin".
        info: The call's context; the concerns that find out more replace it.
        started: When it began, as `time.perf_counter()` told it.
        handled: Whether its stream of answers is in the handler's hands, and what it reads, too.
    """

    __slots__ = ("context", "handled", "info", "metadata", "method", "started")

    def __init__(self, method: Method, context: CallContext) -> None:
        self.method = method
        self.context = context
        # By index: gRPC's pairs are no plain tuples, and `dict` would make a list of each.
        pairs = reversed(context.invocation_metadata() or ())
        self.metadata: dict[str, Any] = {pair[0]: pair[1] for pair in pairs}
        self.info = _NOBODY
        self.started = time.perf_counter()
        self.handled = False


Leave = Callable[[Call, BaseException | None], BaseException | None]
"""Called when a call ends, with what it failed by, if it did.

Returns what it fails by instead, for the concerns further out and the caller; None to leave
that as it is. So no failure is ever swallowed.
"""

Around = Callable[[Call], Leave | None]
"""A concern: called when a call begins, and raises to refuse it.

What it returns is called when the call ends, however it does, once all that is further in
has been left.
"""


class CallFailed(Exception):  # noqa: N818  (it is an outcome, and carries the error)
    """How a failed call looks to every concern: with the status it will be answered with."""

    def __init__(self, error: StepwireError, code: grpc.StatusCode | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.code = code_of(error) if code is None else code


class CallUnimplemented(Exception):  # noqa: N818  (an outcome as well)
    """How a call looks whose method the servicer has not."""


def outcome(call: Call, error: BaseException | None) -> grpc.StatusCode:
    """Returns the code with which a call ends, given what it raised."""
    if error is None or isinstance(error, grpc.aio.AbortError):
        code: grpc.StatusCode = call.context.code() or grpc.StatusCode.OK
        return code
    if isinstance(error, CallFailed):
        return error.code
    if isinstance(error, CallUnimplemented):
        return grpc.StatusCode.UNIMPLEMENTED
    # The only thing left that passes the error mapping is a cancellation: by the
    # caller, by the end of its deadline, or by the server's stop.
    if call.context.time_remaining() == 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def describe(name: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> Method:
    """Returns the description of a method.

    Args:
        name: As gRPC gives it, "/package.Service/Method".
        handler: The method's handler.
    """
    name = name.removeprefix("/")
    return Method(
        name=name,
        streams_requests=bool(handler.request_streaming),
        streams_responses=bool(handler.response_streaming),
        infrastructure=name.startswith(_INFRASTRUCTURE),
    )


def wrap(
    method: Method, handler: "grpc.RpcMethodHandler[Any, Any]", arounds: Sequence[Around]
) -> "grpc.RpcMethodHandler[Any, Any]":
    """Returns the handler with all concerns around it, the first one outermost.

    The behaviour may be a coroutine function, an asynchronous generator function, or
    a plain function that does not block (as a generated base class has for a method
    that the servicer does not implement).
    """
    checked = _Readable if method.streams_requests else _checked
    if method.streams_responses:
        if method.streams_requests:
            behaviour, make = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        else:
            behaviour, make = handler.unary_stream, grpc.unary_stream_rpc_method_handler
        run = _run_stream(cast("_Behaviour", behaviour), checked)
    else:
        if method.streams_requests:
            behaviour, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
        else:
            behaviour, make = handler.unary_unary, grpc.unary_unary_rpc_method_handler
        run = _run_unary(cast("_Behaviour", behaviour), checked)
    wrapped = _outermost(method, run, arounds)
    return make(
        wrapped,
        request_deserializer=_reader(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


class _Unreadable:
    """Stands for a request that is no message of its type, such as one with bad UTF-8."""

    def __init__(self, why: str) -> None:
        self.why = why

    def error(self) -> StepwireError:
        """Returns what its caller is told."""
        return field_invalid("request", f"cannot be read: {self.why}")


class _Readable:
    """The messages of a stream, up to the first one that cannot be read."""

    def __init__(self, requests: AsyncIterable[Any]) -> None:
        self._requests = requests
        self._next: Callable[[], Awaitable[Any]] | None = None

    def __aiter__(self) -> "_Readable":
        return self

    async def __anext__(self) -> Any:
        if self._next is None:
            # Not before: a generator that is never read is reported as a mistake.
            self._next = aiter(self._requests).__anext__
        return _checked(await self._next())


def _checked(request: Any) -> Any:
    """Returns a request, unless it cannot be read."""
    if type(request) is _Unreadable:
        raise request.error()
    return request


def _reader(read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Returns a deserializer that lets the concerns see what cannot be read.

    gRPC would answer it with UNKNOWN and a traceback in the log.
    """
    if read is None:
        return None

    def reader(message: bytes) -> Any:
        try:
            return read(message)
        except DecodeError as error:
            return _Unreadable(str(error))

    return reader


_Behaviour = Callable[[Any, Any], Any]
Run = Callable[[Call, Any], Awaitable[Any]]
"""Carries out a call, given what was asked."""


def _run_unary(behaviour: _Behaviour, checked: Callable[[Any], Any]) -> Run:
    async def run(call: Call, request: Any) -> Any:
        response = behaviour(checked(request), call.context)
        return await response if inspect.isawaitable(response) else response

    async def run_coroutine(call: Call, request: Any) -> Any:
        return await behaviour(checked(request), call.context)

    return run_coroutine if inspect.iscoroutinefunction(behaviour) else run


def _run_stream(behaviour: _Behaviour, checked: Callable[[Any], Any]) -> Run:
    # Responses are written here instead of being yielded to gRPC: so the generator is
    # closed, and every concern left, in this task and before the call is answered.
    async def run(call: Call, request: Any) -> None:
        context: Any = call.context
        call.handled = True
        responses = behaviour(checked(request), context)
        if inspect.isawaitable(responses):
            await responses  # a handler that writes to the context itself
            return
        async with aclosing(cast("AsyncGenerator[Any, None]", responses)) as closing:
            async for response in closing:
                await context.write(response)

    return run


def surround(run: Run, arounds: Sequence[Around]) -> Run:
    """Returns `run` within all concerns, the first one outermost."""

    async def within(call: Call, request: Any) -> Any:
        leaves: list[Leave] = []
        error: BaseException | None = None
        try:
            for around in arounds:
                leave = around(call)
                if leave is not None:
                    leaves.append(leave)
            response = await run(call, request)
        except BaseException as raised:  # noqa: BLE001  (raised again below)
            error = raised
        error = _leave(call, leaves, error)
        if error is None:
            return response
        try:
            raise error
        finally:
            # Its traceback leads back here: kept, all of the call would be a cycle of garbage.
            del error

    return within


def _leave(
    call: Call, leaves: Sequence[Leave], error: BaseException | None
) -> BaseException | None:
    """Leaves the concerns, from the inside out; returns what the call fails by."""
    for leave in reversed(leaves):
        try:
            instead = leave(call, error)
        except Exception as broken:  # noqa: BLE001  (those further out are left all the same)
            instead = broken
        if instead is not None and instead is not error:
            instead.__cause__ = error
            error = instead
    return error


def _outermost(method: Method, run: Run, arounds: Sequence[Around]) -> _Behaviour:
    run = surround(run, arounds)

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        call = Call(method, context)
        try:
            return await run(call, request)
        except CallFailed as failed:
            if method.streams_requests and not call.handled:
                await _hear_out(method, request)
            status = to_status(failed.error, call.info.request_id, code=failed.code)
            # What was set for a good answer goes with a bad one too: the request id.
            kept = tuple(context.trailing_metadata())
            await context.abort_with_status(
                replace(status, trailing_metadata=(*kept, *status.trailing_metadata))
            )
        except CallUnimplemented:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "method not implemented")

    return handle


async def _hear_out(method: Method, requests: AsyncIterable[Any]) -> None:
    """Reads what a refused caller still sends, for a while.

    gRPC's client for Python loses a status that comes while it writes a message: it says
    INTERNAL, "Internal error from Core", and nobody learns what was wrong.
    """
    silence = FALL_SILENT_SECONDS if method.streams_responses else HEAR_OUT_SECONDS
    reader = aiter(requests)
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(HEAR_OUT_SECONDS):
            while True:
                async with asyncio.timeout(silence):
                    await anext(reader)
