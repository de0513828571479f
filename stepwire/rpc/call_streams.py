"""Streams of calls: every message of a stream is a call of its own.

For callers who call all the time: within a stream, a message costs gRPC in Python a third
to two thirds of what a call costs (ADR 24). The calls have the same concerns around them as
others have, so that their metrics, limits, deadlines and errors are the same; they share
the stream's request id, tenant and trace.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc.aio
from google.rpc import status_pb2

from stepwire.call import current_call
from stepwire.errors import StepwireError, service_stopping
from stepwire.rpc import metadata
from stepwire.rpc.interceptors.chain import Around, Call, CallFailed, Method, Run, surround
from stepwire.rpc.status import to_proto
from stepwire.telemetry import inject_traceparent

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class CallStreams(Generic[Asked, Answer]):
    """Serves the streams of one method.

    Answers come in the order of the messages, which are carried out beside each other. One
    that fails is answered with its error, and the stream goes on. Streams last until their
    callers end them, or until `drain`. They are refused until `attach`.

    Args:
        method: What a message calls, as metrics and traces name it: "package.Service/Method".
        carry_out: Carries out one message.
        failed: Makes the answer of one that failed, given its status.
        timeout_seconds: How long one may take; None for as long as a call without a deadline.
        at_once: Messages of one stream under way at the same time; further ones wait unread.
    """

    def __init__(
        self,
        method: str,
        carry_out: Callable[[Asked], Awaitable[Answer]],
        failed: Callable[[Asked, status_pb2.Status], Answer],
        *,
        timeout_seconds: Callable[[Asked], float | None],
        at_once: int,
    ) -> None:
        self._method = Method(
            name=method, streams_requests=False, streams_responses=False, infrastructure=False
        )
        self._carry_out = carry_out
        self._failed = failed
        self._timeout_seconds = timeout_seconds
        self._at_once = at_once
        self._run: Run | None = None
        self._readers: set[asyncio.Task[None]] = set()

    def attach(self, arounds: Sequence[Around]) -> None:
        """Begins to serve, within a server's concerns."""

        async def run(_: Call, asked: Asked) -> Answer:
            return await self._carry_out(asked)

        self._run = surround(run, arounds)

    async def drain(self) -> None:
        """Reads no further, in any stream: they end once what was read is answered."""
        self._run = None
        for reader in self._readers:
            reader.cancel()

    async def serve(
        self, requests: AsyncIterator[Asked], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Answers the messages of a stream until there are no more.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, if the service stops; FIELD_INVALID, if a
                message cannot be read: what came before it is answered first.
        """
        if self._run is None:
            raise service_stopping()
        stream = _Stream(self._run, context, asyncio.Semaphore(self._at_once))
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(requests, stream, group))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        if reader.cancelled():
            raise service_stopping()
        if stream.unreadable is not None:
            raise stream.unreadable

    async def _read(
        self, requests: AsyncIterator[Asked], stream: "_Stream", group: asyncio.TaskGroup
    ) -> None:
        last: asyncio.Task[None] | None = None
        try:
            async for asked in requests:
                await stream.room.acquire()
                last = group.create_task(self._answer(asked, stream, after=last))
        except StepwireError as error:
            stream.unreadable = error

    async def _answer(
        self, asked: Asked, stream: "_Stream", *, after: asyncio.Task[None] | None
    ) -> None:
        answer = await self._outcome(asked, stream)
        if after is not None and not after.done():
            await after
        try:
            await stream.context.write(answer)
        except grpc.aio.BaseError:
            # The caller is gone, which gRPC tells by a cancellation, if not always before this.
            stream.serving.cancel()
            return
        stream.room.release()

    async def _outcome(self, asked: Asked, stream: "_Stream") -> Answer:
        call = Call(self._method, _Caller(stream, self._timeout_seconds(asked)))
        try:
            answer: Answer = await stream.run(call, asked)
        except CallFailed as failed:
            status = to_proto(failed.error, stream.request_id, code=failed.code)
            return self._failed(asked, status)
        return answer


class _Stream:
    """What the messages of a stream share."""

    def __init__(
        self, run: Run, context: "grpc.aio.ServicerContext[Any, Any]", room: asyncio.Semaphore
    ) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        info = current_call()
        self.serving = serving
        self.run = run
        self.context = context
        self.room = room
        self.unreadable: StepwireError | None = None
        self.request_id = info.request_id
        self.metadata = (
            (metadata.REQUEST_ID, info.request_id),
            (metadata.TENANT_ID, info.tenant_id),
            (metadata.TRACEPARENT, inject_traceparent()),
        )


class _Caller:
    """Who calls by a message: see `stepwire.rpc.interceptors.chain.CallContext`."""

    __slots__ = ("_ends", "_stream")

    def __init__(self, stream: _Stream, timeout_seconds: float | None) -> None:
        self._stream = stream
        self._ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """See `CallContext`."""
        return self._stream.metadata

    def set_trailing_metadata(self, trailing_metadata: Any, /) -> None:
        """See `CallContext`; the stream has said it for all."""

    def peer(self) -> str:
        """See `CallContext`."""
        return self._stream.context.peer()

    def time_remaining(self) -> float | None:
        """See `CallContext`; a stream's own deadline ends what is under way itself."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def code(self) -> None:
        """See `CallContext`."""
