"""Serves an ASGI application beside a gRPC server, in its process and event loop."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import uvicorn

from stepwire.lifecycle import StartError

# Longer than the gateway keeps an idle connection, so that it is not closed here while a
# request is on its way.
IDLE_SECONDS = 90
# Of the time between the signal and the exit; the rest is for closing what calls use.
_DRAIN_SHARE = 0.7


class HttpServer:
    """A server that listens within its `async with` block.

    Args:
        app: The application.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        port_variable: What sets the port, for the message when it is taken.
        drain_seconds: How long the process has to stop.
    """

    def __init__(
        self, app: Any, *, host: str, port: int, port_variable: str, drain_seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._port_variable = port_variable
        self._server = _Embedded(
            uvicorn.Config(
                app,
                # What would choose by what is installed is chosen here.
                http="h11",
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=max(1, round(drain_seconds * _DRAIN_SHARE)),
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Without the protocol, asyncio does not see that its connections are TCP's, and has
        # them hold back the end of an answer until the client has confirmed its beginning.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as error:
            listening.close()
            raise StartError(
                f"cannot listen for HTTP on {self.address}: free the port, or set "
                f"{self._port_variable} to another"
            ) from error
        listening.listen()
        self._port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listening]), name="http")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets the requests under way end, for as long as there is time."""
        self.stop()
        if self._serving is not None:
            await self._serving

    def stop(self) -> None:
        """Takes no new requests from now on."""
        self._server.should_exit = True


class _Embedded(uvicorn.Server):
    """Leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
