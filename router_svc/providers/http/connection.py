"""One HTTP/1.1 connection: framing by h11, bytes by asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self, cast

import h11

Headers = list[tuple[bytes, bytes]]

# What is read ahead of a reader that is slow; then the provider has to wait.
_READ_AHEAD_BYTES = 256 * 1024


class ConnectionFailedError(Exception):
    """The connection could not be made, broke, or did not speak HTTP.

    Attributes:
        reused: Whether it had served before and ended without a byte of an answer: the
            server had closed it, and has seen nothing of the request.
    """

    def __init__(self, message: str, *, reused: bool = False) -> None:
        super().__init__(message)
        self.reused = reused


class Connection(asyncio.Protocol):
    """Carries one exchange at a time."""

    def __init__(self, gone: Callable[["Connection"], None]) -> None:
        self._gone = gone
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost: str | None = None
        self._held_back = 0
        self._paused = False
        self.served = 0

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin."""
        return self._lost is None and self._http.our_state is h11.IDLE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Takes what has come, and stops reading when nobody fetches it."""
        self._http.receive_data(data)
        self._held_back += len(data)
        if self._held_back > _READ_AHEAD_BYTES and not self._paused and self._transport:
            self._transport.pause_reading()
            self._paused = True
        self._wake()
        if self._http.our_state is h11.IDLE:
            # Nothing was asked: not a server to go on with.
            self.close()

    def eof_received(self) -> bool:
        """Notes the end of what comes; h11 says whether it came too early."""
        self._http.receive_data(b"")
        self._lost = self._lost or "the server closed the connection"
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that nothing more will come."""
        self._lost = str(exc) if exc else self._lost or "the connection is closed"
        self._gone(self)
        self._wake()

    def close(self) -> None:
        """Closes at once; the server sees that nobody waits any more."""
        self._lost = self._lost or "closed here"
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, target: bytes, headers: Headers, body: bytes) -> h11.Response:
        """Sends a POST and returns the head of its answer.

        Raises:
            ConnectionFailedError: There is none.
        """
        request = h11.Request(method=b"POST", target=target, headers=headers)
        out = self._http.send(request) or b""
        out += self._http.send(h11.Data(data=body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        assert self._transport is not None
        self._transport.write(out)
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event

    async def body(self) -> AsyncIterator[bytes]:
        """Yields what is left of the body of the answer, as it comes.

        Raises:
            ConnectionFailedError: It broke off.
        """
        while self._http.their_state in (h11.SEND_BODY, h11.ERROR):
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    def again(self) -> bool:
        """Makes ready for another exchange, and returns whether there can be one."""
        done = {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        # What came on top of the answer would be taken for that to the next request.
        over = self._http.trailing_data[0]
        if self._lost is None and self._http.states == done and not over:
            self._http.start_next_cycle()
            self.served += 1
            return True
        return False

    async def _next(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._failed(str(self._lost or error)) from error
            if isinstance(event, h11.ConnectionClosed):
                raise self._failed(self._lost or "the server closed the connection")
            if event is h11.PAUSED:
                # Nothing more is read of it, however often one asks.
                raise self._failed("the server sent more than an answer")
            if event is not h11.NEED_DATA:
                return cast("h11.Event", event)
            if self._lost is not None:
                raise self._failed(self._lost)
            self._held_back = 0
            if self._paused and self._transport is not None:
                self._transport.resume_reading()
                self._paused = False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _failed(self, why: str) -> ConnectionFailedError:
        untouched = self._http.their_state is h11.SEND_RESPONSE or (
            self._http.their_state is h11.ERROR and not self._http.trailing_data[0]
        )
        return ConnectionFailedError(why, reused=self.served > 0 and untouched)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class HttpResponse:
    """The answer to a POST. `close` it, or use it in an `async with` block.

    Attributes:
        status: Its code.
        headers: Its headers, names in lower case.
    """

    def __init__(
        self, head: h11.Response, connection: Connection, done: Callable[[Connection], None]
    ) -> None:
        self.status: int = head.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        self._connection = connection
        self._done = done

    async def read(self, *, limit: int) -> bytes:
        """Returns the whole body.

        Raises:
            ConnectionFailedError: It broke off, or is longer than `limit` bytes.
        """
        pieces = []
        size = 0
        async for piece in self._connection.body():
            size += len(piece)
            if size > limit:
                raise ConnectionFailedError(f"the answer is longer than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self) -> AsyncIterator[bytes]:
        """Returns the body as it comes; see `Connection.body`."""
        return self._connection.body()

    async def skip(self, *, seconds: float) -> None:
        """Reads what is left, for so long at most: then the connection can be used again."""
        with suppress(TimeoutError, ConnectionFailedError):
            async with asyncio.timeout(seconds):
                async for _ in self._connection.body():
                    pass

    def close(self) -> None:
        """Gives the connection back, or closes it when the body was not read to its end."""
        self._done(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
