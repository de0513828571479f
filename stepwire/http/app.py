"""An ASGI application of a few routes, whose calls have the same concerns around them as gRPC's.

Request ids, tenants, traces, metrics, limits, deadlines and errors are thus the same,
whichever way a call comes; the limits are those of the whole process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Protocol, Self

import grpc
import orjson

from stepwire.errors import StepwireError, field_invalid, service_stopping
from stepwire.http.asgi import (
    ClientGoneError,
    Receive,
    Scope,
    Send,
    headers_of,
    read_body,
    until_gone,
)
from stepwire.http.exchange import Answer, Asked, Exchange, Stream
from stepwire.rpc.interceptors.chain import (
    Around,
    Call,
    CallFailed,
    Method,
    Run,
    surround,
)
from stepwire.telemetry.names import RPC_SYSTEM_HTTP

HEALTH_PATH = "/healthz"

_OK = 200
_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
_UNAVAILABLE = 503

Handler = Callable[[Asked], Awaitable[Answer | Stream]]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked.

    Attributes:
        verb: The HTTP method.
        path: The path; one that ends with `/` stands for all that have one more part.
        name: The call's name in traces, metrics and log lines.
        handle: Answers.
    """

    verb: str
    path: str
    name: str
    handle: Handler

    def matches(self, path: str) -> bool:
        """Returns whether the route is the one for `path`."""
        if not self.path.endswith("/"):
            return path == self.path
        rest = path.removeprefix(self.path)
        return path.startswith(self.path) and rest != "" and "/" not in rest


class Dialect(Protocol):
    """How an API tells errors and timeouts, and what it calls a stream."""

    def error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> Answer:
        """Returns the answer that tells an error."""
        ...

    def late_error(self, error: StepwireError, code: grpc.StatusCode, request_id: str) -> bytes:
        """Returns what ends a stream that has begun, and failed."""
        ...

    def nothing(self, status: int, path: str) -> Answer:
        """Returns the answer for a path, or a method of it, that does not exist."""
        ...

    def is_stream(self, asked: Asked) -> bool:
        """Returns whether the answer is to come in pieces."""
        ...

    def timeout_seconds(self, asked: Asked, *, stream: bool) -> float | None:
        """Returns how long the caller waits; None when it does not say.

        Raises:
            StepwireError: FIELD_INVALID.
        """
        ...


class HttpApp:
    """The application. It refuses everything until it is attached to a server's concerns.

    Args:
        routes: What can be asked.
        dialect: The API that it speaks.
        max_body_bytes: Largest request.
    """

    def __init__(self, routes: Sequence[Route], dialect: Dialect, *, max_body_bytes: int) -> None:
        self._routes = routes
        self._dialect = dialect
        self._max_body_bytes = max_body_bytes
        self._methods = {
            (route.name, stream): Method(
                name=route.name,
                streams_requests=False,
                streams_responses=stream,
                infrastructure=False,
                system=RPC_SYSTEM_HTTP,
            )
            for route in routes
            for stream in (False, True)
        }
        self._run: Run | None = None
        self._retired = False

    def attach(self, arounds: Sequence[Around]) -> None:
        """Begins to serve, within a server's concerns."""
        self._run = surround(self._carry_out, arounds)

    def retire(self) -> None:
        """Has health say that it is about to stop; requests are still served."""
        self._retired = True

    def detach(self) -> None:
        """Stops serving: health says so, and new requests are refused."""
        self._run = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; see ASGI."""
        if scope["type"] != "http":
            return
        wire = _Wire(scope, receive, send)
        path, run = scope["path"], self._run
        if path == HEALTH_PATH or run is None:
            gone = run is None or self._retired
            await wire.answer(Answer(b"", _UNAVAILABLE if gone else _OK))
            return
        there = [route for route in self._routes if route.matches(path)]
        route = next((each for each in there if each.verb == scope["method"]), None)
        if route is None:
            status = _METHOD_NOT_ALLOWED if there else _NOT_FOUND
            await wire.answer(self._dialect.nothing(status, path))
            return
        with suppress(ClientGoneError):
            await self._call(run, route, wire)

    async def _call(self, run: Run, route: Route, wire: "_Wire") -> None:
        path = wire.scope["path"]
        asked = Asked(path, headers_of(wire.scope), rest=path.removeprefix(route.path))
        stream, timeout = False, None
        fault: StepwireError | None = None
        try:
            asked = await self._read(route, asked, wire.receive)
            stream = self._dialect.is_stream(asked)
            timeout = self._dialect.timeout_seconds(asked, stream=stream)
        except StepwireError as error:
            # Told within the concerns, as any other error.
            fault = error
        exchange = wire.exchange(asked, timeout_seconds=timeout)
        call = Call(self._methods[route.name, stream], exchange)
        job = _Job(route.handle, asked, exchange, fault)
        async with _Watched(wire.receive, exchange) as watched:
            try:
                await run(call, job)
            except CallFailed as failed:
                await self._fail(exchange, failed, call.info.request_id)
            except asyncio.CancelledError:
                if watched.gone:
                    raise
                # The process stops, and has waited for as long as it may.
                await self._fail(exchange, CallFailed(service_stopping()), call.info.request_id)

    async def _read(self, route: Route, asked: Asked, receive: Receive) -> Asked:
        body = await read_body(receive, max_bytes=self._max_body_bytes)
        if route.verb == "GET":
            return asked
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise field_invalid("body", f"is not JSON: {error}") from error
        return replace(asked, body=value)

    async def _carry_out(self, call: Call, job: "_Job") -> None:
        del call
        if job.fault is not None:
            raise job.fault
        answer = await job.handle(job.asked)
        if isinstance(answer, Answer):
            await job.exchange.whole(answer)
            return
        async with aclosing(answer.pieces):
            await job.exchange.stream(answer)

    async def _fail(self, exchange: Exchange, failed: CallFailed, request_id: str) -> None:
        told = (failed.error, failed.code, request_id)
        if exchange.begun:
            await exchange.end(self._dialect.late_error(*told))
        else:
            await exchange.whole(self._dialect.error(*told))


@dataclass(frozen=True, slots=True)
class _Wire:
    """What ASGI gives for one request."""

    scope: Scope
    receive: Receive
    send: Send

    def exchange(self, asked: Asked, *, timeout_seconds: float | None) -> Exchange:
        return Exchange(self.scope, asked.headers, self.send, timeout_seconds=timeout_seconds)

    async def answer(self, answer: Answer) -> None:
        """Answers without the concerns of calls."""
        await Exchange(self.scope, {}, self.send, timeout_seconds=None).whole(answer)


@dataclass(frozen=True, slots=True)
class _Job:
    """A call to be carried out, or the fault that it has from the start."""

    handle: Handler
    asked: Asked
    exchange: Exchange
    fault: StepwireError | None


class _Watched:
    """Cancels its block when the client goes away; leaving it then is quiet.

    Args:
        receive: Tells of the client.
        exchange: After whose end nobody is expected to stay.
    """

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._receive = receive
        self._exchange = exchange
        self.gone = False

    async def __aenter__(self) -> Self:
        self._watch = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._watch.cancel()
        # Its end has a traceback that leads back here: kept, all of the request would lie in
        # memory until the collector comes, and the collector then has 80 ms of work.
        del self._watch
        cancelled = isinstance(error, asyncio.CancelledError)
        return self.gone and cancelled and self._task.uncancel() == 0

    async def _look(self) -> None:
        await until_gone(self._receive)
        if not self._exchange.ended:
            self.gone = True
            self._task.cancel()
