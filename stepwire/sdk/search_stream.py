"""Searches over one stream, for programs that search all the time."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from stepwire.api.vector.v1.search_pb2 import ScoredPoint
from stepwire.api.vector.v1.search_service_pb2 import (
    SearchPointsResponse,
    StreamSearchPointsRequest,
    StreamSearchPointsResponse,
)
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceAsyncStub
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_proto, from_rpc_error
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.values import to_duration
from stepwire.sdk.vector_requests import search_request

_Call = grpc.aio.StreamStreamCall[StreamSearchPointsRequest, StreamSearchPointsResponse]

# A server answers each search within its timeout. A stream that owes an answer and has given
# none for so many timeouts is lost, though nothing has said so.
_SILENT_TIMEOUTS = 1.5
# Before a search is sent for the second, third and fourth time: another server may be there
# already, or the same one is back after its start.
_PAUSES_SECONDS = (0.0, 0.2, 0.8)
_MOST_SENDS = 1 + len(_PAUSES_SECONDS)


@dataclass(slots=True)
class _Asked:
    """A search, its answer to come, and on how many streams it was sent."""

    message: StreamSearchPointsRequest
    answer: asyncio.Future[SearchPointsResponse]
    sends: int = 1


class SearchStream:
    """Searches as `Vectors.search`, for less: any number of callers share one stream.

    Answers come in the order in which searches were sent, so a slow one holds up those
    behind it. The stream is opened by the first search, and by the next one after a loss;
    searches that had no answer then are sent again, three times at most within a second. A
    stream that gives no answer any more is lost, too. To be used as an async context
    manager; what has no answer when it is left fails.

    Args:
        searches: The service.
        target: What it is reached by, for error messages.
        timeout: Longest time for one search.
    """

    def __init__(
        self, searches: SearchServiceAsyncStub, *, target: str, timeout: timedelta
    ) -> None:
        self._searches = searches
        self._target = target
        self._timeout = to_duration(timeout)
        self._timeout_seconds = timeout.total_seconds()
        self._unsent: asyncio.Queue[_Asked] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._patience: asyncio.Timeout | None = None
        # When the stream last gave an answer, or began to owe one; never, if it owes none.
        self._heard = math.inf

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name="search stream")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])

    async def search(
        self,
        collection: str,
        vector: bytes,
        *,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  (the field's name)
    ) -> Sequence[ScoredPoint]:
        """Finds points as `Vectors.search` does.

        Raises:
            StepwireError: As for a call.
            RuntimeError: The stream was not entered, or was left.
        """
        if self._running is None or self._running.done():
            raise RuntimeError("a search stream is to be used within `async with`")
        search = search_request(collection, vector, limit=limit, containing=filter)
        message = StreamSearchPointsRequest(search=search, timeout=self._timeout)
        asked = _Asked(message, asyncio.get_running_loop().create_future())
        self._unsent.put_nowait(asked)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await asked.answer
        except TimeoutError as error:
            raise StepwireError(
                Reason.DEADLINE_EXCEEDED,
                f"{self._target} did not answer within {self._timeout_seconds:g} s",
            ) from error
        finally:
            if asked.answer.cancelled():
                self._look_for_silence()
        return response.points

    async def _run(self) -> None:
        """Open streams one after the other, each when there is something to send."""
        due: list[_Asked] = []
        try:
            while True:
                due = due or [await self._unsent.get()]
                due = await self._use_stream(due)
                if due:
                    await asyncio.sleep(_PAUSES_SECONDS[max(each.sends for each in due) - 2])
        finally:
            closed = StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "the stream was closed")
            _fail([*due, *self._waiting()], closed)

    async def _use_stream(self, due: Sequence[_Asked]) -> list[_Asked]:
        """Send what is due, and what comes, until the stream ends; return what is due then."""
        sent = deque(due)
        self._heard = time.monotonic()
        call: _Call = self._searches.StreamSearchPoints()
        # Callers do not write themselves: one that is cancelled would take the stream along.
        writer = asyncio.create_task(self._write(call, due, sent), name="search stream writer")
        fault = StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "the stream was closed")
        try:
            fault = await self._read(call, sent)
        except asyncio.CancelledError:
            _fail(sent, fault)
            raise
        finally:
            writer.cancel()
            call.cancel()
        if fault.reason is not Reason.DEPENDENCY_UNAVAILABLE:
            _fail(sent, fault)
            return []
        # What waited as well: without a server, all are to hear of it, and not one by one.
        return _again([*sent, *self._waiting()], fault)

    def _waiting(self) -> Iterable[_Asked]:
        while not self._unsent.empty():
            yield self._unsent.get_nowait()

    async def _write(self, call: _Call, due: Sequence[_Asked], sent: deque[_Asked]) -> None:
        # A stream that ends is the reader's to tell.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for asked in due:
                await call.write(asked.message)
            while True:
                asked = await self._unsent.get()
                if not asked.answer.done():
                    if not sent:
                        self._heard = time.monotonic()
                    sent.append(asked)
                    await call.write(asked.message)

    async def _read(self, call: _Call, sent: deque[_Asked]) -> StepwireError:
        """Hand out answers until the stream ends, or is silent; return why it did."""
        what = "ended the stream"
        try:
            async with asyncio.timeout(None) as self._patience:
                with raising_ours(self._target):
                    await self._hand_out(call, sent)
        except TimeoutError:
            what = "gives no answer any more"
        except StepwireError as error:
            if not _is_broken(error):
                return error
        finally:
            self._patience = None
        return StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"{self._target} {what}",
            metadata={"dependency": self._target},
        )

    async def _hand_out(self, call: _Call, sent: deque[_Asked]) -> None:
        while isinstance(response := await call.read(), StreamSearchPointsResponse):
            _tell(sent.popleft(), response)
            self._heard = time.monotonic() if sent else math.inf

    def _look_for_silence(self) -> None:
        """Give the stream up, if it has owed an answer for too long."""
        silent = time.monotonic() - self._heard
        if self._patience is not None and silent > _SILENT_TIMEOUTS * self._timeout_seconds:
            self._patience.reschedule(0)  # the past
            self._patience = None


def _again(searches: Sequence[_Asked], fault: StepwireError) -> list[_Asked]:
    """Fail the searches that were sent as often as they may be; return the others."""
    _fail((each for each in searches if each.sends == _MOST_SENDS), fault)
    again = [each for each in searches if not each.answer.done()]
    for each in again:
        each.sends += 1
    return again


def _is_broken(error: StepwireError) -> bool:
    """Tell a stream that broke from one that its server has ended.

    gRPC says INTERNAL of both: of a reset by the gateway, whose service died, and, in its client
    for Python, of whatever ends a stream while it is written to. A server of ours gives a reason.
    """
    cause = error.__cause__
    return (
        isinstance(cause, grpc.aio.AioRpcError)
        and cause.code() is grpc.StatusCode.INTERNAL
        and from_rpc_error(cause) is None
    )


def _fail(searches: Iterable[_Asked], error: StepwireError) -> None:
    for each in searches:
        if not each.answer.done():
            each.answer.set_exception(error)


def _tell(asked: _Asked, response: StreamSearchPointsResponse) -> None:
    if asked.answer.done():
        return  # nobody waits any more
    if response.HasField("found"):
        asked.answer.set_result(response.found)
        return
    asked.answer.set_exception(
        from_proto(response.error) or StepwireError(Reason.INTERNAL, response.error.message)
    )
