"""The server that Envoy asks before each call."""

import asyncio
import logging
from types import TracebackType
from typing import Final, Self, cast

from gateway.authz import wire
from gateway.authz.checker import Checker, Verdict, key_of
from gateway.authz.paths import scope_of_path
from gateway.keys.records import Key
from gateway.metrics import CheckMetrics
from gateway.public import Scope
from stepwire.lifecycle import StartError

# Envoy takes 60 KiB of headers, and asks one question at a time.
MAX_READ_BYTES: Final = 128 * 1024

_logger = logging.getLogger(__name__)


class CheckServer:
    """Listens within its `async with` block.

    Args:
        checker: Decides.
        metrics: Told what it decides.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        port_variable: What sets the port, for the message when it is taken.
    """

    def __init__(
        self, checker: Checker, metrics: CheckMetrics, *, host: str, port: int, port_variable: str
    ) -> None:
        self._checker = checker
        self._metrics = metrics
        self._host = host
        self._port = port
        self._port_variable = port_variable
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connection, self._host, self._port)
        except OSError as error:
            raise StartError(
                f"cannot listen for Envoy on {self._host}:{self._port}: free the port, or set "
                f"{self._port_variable} to another"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    def _connection(self) -> "_Connection":
        return _Connection(self._checker, self._metrics, self._connections)


class _Connection(asyncio.Protocol):
    """One connection of Envoy's; it answers one question after the other."""

    def __init__(
        self, checker: Checker, metrics: CheckMetrics, connections: "set[_Connection]"
    ) -> None:
        self._checker = checker
        self._metrics = metrics
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._pending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none by their class.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's name)
        self._connections.discard(self)
        self._transport = None
        if self._pending is not None:
            self._pending.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        if len(self._read) > MAX_READ_BYTES:
            self._write(wire.MALFORMED)
            self.close()
            return
        self._go_on()

    def close(self) -> None:
        """Ends the connection, once it has sent what it has to."""
        if self._transport is not None:
            self._transport.close()

    def _go_on(self) -> None:
        while self._pending is None and self._transport is not None:
            head, end, rest = self._read.partition(wire.END)
            if not end:
                return
            self._read = rest
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        try:
            question = wire.read_question(head)
        except wire.MalformedError:
            self._write(wire.MALFORMED)
            self.close()
            return
        if question.path is None:
            self._write(wire.HEALTHY)
            return
        text = key_of(question.authorization, question.api_key)
        scope = scope_of_path(question.path)
        verdict = self._checker.at_once(text, scope)
        if verdict is not None:
            self._tell(verdict, scope)
            return
        self._pending = asyncio.create_task(self._look_up(text or "", scope), name="key")

    async def _look_up(self, text: str, scope: Scope | None) -> None:
        try:
            self._tell(await self._checker.check(text, scope), scope)
        except Exception:
            # Envoy then lets nothing pass.
            _logger.exception("a key was not checked")
            self._write(wire.BROKEN)
            self.close()
        finally:
            self._pending = None
        self._go_on()

    def _tell(self, verdict: Verdict, scope: Scope | None) -> None:
        if isinstance(verdict, Key):
            self._metrics.allowed()
            self._write(wire.allow(verdict.key_id, verdict.tenant_id))
        else:
            self._metrics.refused(verdict)
            self._write(wire.deny(verdict, scope))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
