"""Keeps connections to one server, and sends requests over them."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from router_svc.providers.http.connection import Connection, ConnectionFailedError, HttpResponse

# Shorter than servers and proxies keep an idle connection, so that they seldom close
# one that is just being used.
IDLE_SECONDS = 50.0
# A connection that was closed before a request came ends within a round trip; a server that
# goes later may have worked on it.
STALE_SECONDS = 1.0
_HTTPS_PORT = 443
_HTTP_PORT = 80


class HttpClient:
    """Sends POST requests to one server.

    It follows no redirects and no proxy settings, keeps no cookies and never retries,
    save on a kept connection that the server has closed before it saw the request.

    Args:
        base_url: Root of the server's API.
        headers: Sent with each request.
        connect_seconds: Longest time for a connection to be made.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        connect_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(base_url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (_HTTPS_PORT if self._tls else _HTTP_PORT)
        self._path = parts.path.rstrip("/")
        self._connect_seconds = connect_seconds
        self._clock = clock
        host = parts.netloc.rpartition("@")[2]
        common = {"host": host, "content-type": "application/json", **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in common.items()]
        self._idle: list[tuple[Connection, float]] = []
        self._busy: set[Connection] = set()
        self._closed = False

    async def post(
        self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Sends `body` to `path` below the root, and returns the answer once its head is there.

        Cancelling closes the connection.

        Raises:
            ConnectionFailedError: There is no answer.
        """
        target = (self._path + path).encode()
        lines = [*self._headers, (b"content-length", str(len(body)).encode())]
        lines += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        while True:
            connection = self._take() or await self._connect()
            began = self._clock()
            self._busy.add(connection)
            try:
                head = await connection.exchange(target, lines, body)
            except ConnectionFailedError as error:
                self._drop(connection)
                if not error.reused or self._clock() - began >= STALE_SECONDS:
                    raise
            except BaseException:
                self._drop(connection)
                raise
            else:
                return HttpResponse(head, connection, self._give_back)

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back."""
        self._closed = True
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()

    def _take(self) -> Connection | None:
        # The one used last: the others may grow old and go.
        now = self._clock()
        while self._idle:
            connection, since = self._idle.pop()
            if connection.usable and now - since < IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._busy.discard), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectionFailedError(
                f"no connection within {self._connect_seconds:g} s"
            ) from error
        except OSError as error:
            raise ConnectionFailedError(_words(error)) from error
        return connection

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if not self._closed and connection.again():
            self._idle.append((connection, self._clock()))
        else:
            connection.close()

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.close()


def _words(error: OSError) -> str:
    """Returns why there is no connection, in the system's words; asyncio's name addresses."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}".replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
