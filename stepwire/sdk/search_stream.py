"""Searches over one stream, for programs that search all the time."""

import asyncio
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
from stepwire.rpc.status import from_proto
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.values import to_duration
from stepwire.sdk.vector_requests import search_request

_Call = grpc.aio.StreamStreamCall[StreamSearchPointsRequest, StreamSearchPointsResponse]


@dataclass(slots=True)
class _Asked:
    """A search, its answer to come, and whether it was sent a second time."""

    message: StreamSearchPointsRequest
    answer: asyncio.Future[SearchPointsResponse]
    repeated: bool = False


class SearchStream:
    """Searches as `Vectors.search`, for less: any number of callers share one stream.

    Answers come in the order in which searches were sent, so a slow one holds up those
    behind it. The stream is opened by the first search, and by the next one after a loss;
    searches that were on their way then are sent once more. To be used as an async context
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
        return response.points

    async def _run(self) -> None:
        """Open streams one after the other, each when there is something to send."""
        due: list[_Asked] = []
        try:
            while True:
                due = due or [await self._unsent.get()]
                due = await self._use_stream(due)
        finally:
            closed = StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "the stream was closed")
            while not self._unsent.empty():
                due.append(self._unsent.get_nowait())
            _fail(due, closed)

    async def _use_stream(self, due: Sequence[_Asked]) -> list[_Asked]:
        """Send what is due, and what comes, until the stream ends; return what is due then."""
        sent: deque[_Asked] = deque()
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
        lost = [each for each in sent if not each.answer.done()]
        if fault.reason is not Reason.DEPENDENCY_UNAVAILABLE:
            _fail(lost, fault)
            return []
        _fail((each for each in lost if each.repeated), fault)
        again = [each for each in lost if not each.repeated]
        for each in again:
            each.repeated = True
        return again

    async def _write(self, call: _Call, due: Sequence[_Asked], sent: deque[_Asked]) -> None:
        # A stream that ends is the reader's to tell.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for asked in due:
                sent.append(asked)
            for asked in due:
                await call.write(asked.message)
            while True:
                asked = await self._unsent.get()
                if not asked.answer.done():
                    sent.append(asked)
                    await call.write(asked.message)

    async def _read(self, call: _Call, sent: deque[_Asked]) -> StepwireError:
        """Hand out answers until the stream ends; return why it did."""
        try:
            with raising_ours(self._target):
                while isinstance(response := await call.read(), StreamSearchPointsResponse):
                    _tell(sent.popleft(), response)
        except StepwireError as error:
            return error
        return StepwireError(Reason.DEPENDENCY_UNAVAILABLE, f"{self._target} ended the stream")


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
