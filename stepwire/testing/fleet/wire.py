"""HTTP/1.1 on one connection: requests in, replies out, through h11."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import cast

import h11

# Larger than any request that a context window of a million tokens makes.
MAX_BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """The answer to one request; what is written goes out at once."""

    def __init__(self, connection: h11.Connection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport

    def whole(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends a complete answer in one write."""
        out = self._connection.send(_head(status, content_type, headers, length=len(body))) or b""
        out += self._connection.send(h11.Data(data=body)) or b""
        out += self._connection.send(h11.EndOfMessage()) or b""
        self._transport.write(out)

    def start(self, status: int, content_type: str, *, length: int | None = None) -> None:
        """Sends the head of an answer whose body follows in pieces."""
        self._transport.write(self._connection.send(_head(status, content_type, {}, length)) or b"")

    def piece(self, data: bytes) -> None:
        """Sends a piece of the body."""
        self._transport.write(self._connection.send(h11.Data(data=data)) or b"")

    def end(self) -> None:
        """Ends the body."""
        self._transport.write(self._connection.send(h11.EndOfMessage()) or b"")

    def abort(self) -> None:
        """Closes the connection, once what was written has gone out."""
        self._transport.close()


def _head(
    status: int, content_type: str, headers: Mapping[str, str] | None, length: int | None
) -> h11.Response:
    fields = [("content-type", content_type), ("date", formatdate(usegmt=True))]
    fields += (headers or {}).items()
    fields.append(
        ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
    )
    return h11.Response(status_code=status, headers=fields)


Handler = Callable[[HttpRequest, Reply], Awaitable[None]]


class HttpConnection(asyncio.Protocol):
    """Reads requests one after the other, each handled in a task of its own.

    A client that closes its connection cancels the task, as a provider stops generating
    for a client that is gone.
    """

    def __init__(self, handler: Handler, open_connections: set[asyncio.BaseTransport]) -> None:
        self._handler = handler
        self._open = open_connections
        self._connection = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends what the client no longer waits for."""
        del exc
        if self._transport is not None:
            self._open.discard(self._transport)
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        """Closes: a client that has finished sending waits for nothing here."""
        return False

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        self._connection.receive_data(data)
        self._read()

    def _read(self) -> None:
        assert self._transport is not None
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError:
                self._transport.close()
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self._request = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY_BYTES:
                    self._transport.abort()
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._begin(self._transport)
            else:
                self._transport.close()
                return

    def _begin(self, transport: asyncio.Transport) -> None:
        assert self._request is not None
        request = HttpRequest(
            method=self._request.method.decode(),
            path=self._request.target.decode().partition("?")[0],
            headers={name.decode(): value.decode() for name, value in self._request.headers},
            body=bytes(self._body),
        )
        self._task = asyncio.ensure_future(self._answer(request, transport))

    async def _answer(self, request: HttpRequest, transport: asyncio.Transport) -> None:
        await self._handler(request, Reply(self._connection, transport))
        self._task = None
        if transport.is_closing():
            return
        if self._connection.our_state is h11.MUST_CLOSE:
            transport.close()
            return
        self._connection.start_next_cycle()
        self._read()
