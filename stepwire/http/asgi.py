"""The types of ASGI, and the reading of a request's body."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from stepwire.errors import payload_too_large

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Headers = dict[str, str]


class ClientGoneError(Exception):
    """The client closed its connection before it had sent its request."""


def headers_of(scope: Scope) -> Headers:
    """Returns the headers of a request, names in lower case; of equal names the first."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
    }


async def read_body(receive: Receive, *, max_bytes: int) -> bytes:
    """Returns the whole body of a request.

    Raises:
        StepwireError: PAYLOAD_TOO_LARGE.
        ClientGoneError: There is none to come.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise payload_too_large("body", size_bytes=size, limit_bytes=max_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def until_gone(receive: Receive) -> None:
    """Returns when the client has closed its connection, or has its whole answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
