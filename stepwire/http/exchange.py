"""One request over HTTP and its answer."""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwire.http.asgi import Headers, Scope, Send

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked.

    Attributes:
        path: The path, without the query.
        headers: Names in lower case.
        body: The JSON of the body; None where there is none.
        rest: What of the path stands in the place of a route's last part; empty without.
    """

    path: str
    headers: Headers
    body: Any = None
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of JSON."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of server-sent events. Its head goes out with the first piece."""

    pieces: AsyncGenerator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """What the concerns around calls see of a request, and the way of its answer.

    See `stepwire.rpc.interceptors.chain.CallContext`.

    Args:
        scope: The request.
        headers: Its headers.
        send: Takes the answer.
        timeout_seconds: How long the caller waits; None for as long as it takes.
    """

    def __init__(
        self, scope: Scope, headers: Headers, send: Send, *, timeout_seconds: float | None
    ) -> None:
        self._scope = scope
        self._headers = headers
        self._send = send
        self._ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._kept: dict[str, str] = {}
        self.begun = False
        """Whether the head of the answer is sent."""
        self.ended = False
        """Whether all of it is."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """See `CallContext`."""
        return tuple(self._headers.items())

    def set_trailing_metadata(self, trailing_metadata: Any, /) -> None:
        """See `CallContext`; here they are headers."""
        self._kept |= dict(trailing_metadata)

    def peer(self) -> str:
        """See `CallContext`."""
        host, port = self._scope.get("client") or ("", 0)
        return f"{host}:{port}"

    def time_remaining(self) -> float | None:
        """See `CallContext`."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def code(self) -> None:
        """See `CallContext`: an answer has none but that of an error."""

    async def whole(self, answer: Answer) -> None:
        """Sends a whole answer."""
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        await self._start(answer.status, JSON, headers)
        await self.end(answer.body)

    async def stream(self, stream: Stream) -> None:
        """Sends pieces as they come."""
        async for piece in stream.pieces:
            if not self.begun:
                await self._start(200, EVENTS, {"cache-control": "no-cache", **stream.headers})
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.end()

    async def end(self, last: bytes = b"") -> None:
        """Ends an answer that has begun."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": last})

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.begun = True
        told = {"content-type": content_type, **self._kept, **headers}
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (name.encode("latin-1"), value.encode("latin-1", "replace"))
                    for name, value in told.items()
                ],
            }
        )
