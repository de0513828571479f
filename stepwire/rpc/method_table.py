"""All methods of a server by name, each wrapped once in the concerns around calls.

It takes the place of a `grpc.aio.Server` towards the generated `add_*_to_server`
functions, and is the server's one handler. Compared with gRPC's server interceptors
it runs nothing per call but one look-up, and methods can be added while the server
already answers health.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from stepwire.errors import Reason, StepwireError
from stepwire.rpc.interceptors.chain import Around, describe, wrap
from stepwire.rpc.status import to_status

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class MethodTable(grpc.GenericRpcHandler):
    """Finds the handler of a method, with all concerns around it."""

    def __init__(self, arounds: Sequence[Around]) -> None:
        self._arounds = arounds
        self._found: dict[str, _Handler] = {}
        self._sources: list[grpc.GenericRpcHandler] = []
        # Until the services are there, a method that is missing may still come.
        self._complete = False

    def complete(self) -> None:
        """Says that all services are there: what is missing now does not exist."""
        self._complete = True

    def add(self, add: Callable[[grpc.aio.Server], None]) -> None:
        """Adds the methods that a generated `add_*_to_server` function registers."""
        add(cast("grpc.aio.Server", self))

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Takes what the generated function gives to a server.

        What comes later takes the place of an earlier method of the same name: so may a
        service bring its own health.
        """
        self._sources[:0] = handlers
        self._found.clear()

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, _Handler]
    ) -> None:
        """Takes no notice: the generated function gives the same methods twice."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "_Handler | None":
        """Returns the wrapped handler of a method; None if there is no such method.

        While the server starts, a method that is not there yet answers UNAVAILABLE, so that
        callers try again instead of giving up.
        """
        name = handler_call_details.method
        found = self._found.get(name)
        if found is None:
            for source in self._sources:
                handler = source.service(handler_call_details)
                if handler is not None:
                    found = wrap(describe(name, handler), handler, self._arounds)
                    self._found[name] = found
                    break
        return found if found is not None or self._complete else _STARTING


async def _refuse(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    error = StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "the service is starting",
        metadata={"dependency": "service"},
    )
    await context.abort_with_status(to_status(error, request_id=""))


# Fits every shape: it ends the call without reading what the caller sends.
_STARTING: _Handler = grpc.unary_unary_rpc_method_handler(_refuse)
