"""What a service gives to the runtime: its name and how to add it to a server."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio

from stepwire.rpc.health import Conditions
from stepwire.rpc.interceptors.chain import Around


@dataclass(frozen=True)
class Service:
    """One proto service that a server offers.

    Attributes:
        name: Its full proto name, e.g. "stepwire.api.router.v1.RouterService": the
            name under which its health is asked for.
        add: Adds it to a server, e.g. `partial(add_RouterServiceServicer_to_server,
            servicer)`.
        drain: Called when the process is asked to stop, after health has become
            NOT_SERVING and before calls are given their grace: to end watches and
            to stop taking new work. Must return soon.
        attach: Told the concerns around the server's calls when it begins to serve, for
            calls that come another way, such as HTTP, and share its limits.
        retire: Told as soon as the process is asked to stop, with health: for what tells the
            service's health another way, such as over HTTP.
        conditions: What else health answers for, by name: whether all is well with it. A
            condition that is not well is NOT_SERVING by its own name alone.
    """

    name: str
    add: Callable[[grpc.aio.Server], None]
    drain: Callable[[], Awaitable[None]] | None = None
    attach: Callable[[Sequence[Around]], None] | None = None
    retire: Callable[[], None] | None = None
    conditions: Conditions | None = None


# Opens what the services need on the given stack, which closes it in reverse at the
# end, and returns the services. Raises to refuse the start.
Build = Callable[[AsyncExitStack], Awaitable[Sequence[Service]]]
