"""The stack's TCP ports, all on the loopback interface, and which of them are free."""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import psutil

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65535
PORT_OFFSET_VARIABLE = "STEPWIRE_PORT_OFFSET"


class PortError(Exception):
    """A port is taken, or cannot be used; the message says by whom and what to do."""


@dataclass(frozen=True)
class PortDefault:
    """One port: the variable that sets it, and its number where the variable is unset."""

    variable: str
    number: int


DEFAULTS: Mapping[str, PortDefault] = MappingProxyType(
    {
        "postgres": PortDefault("STEPWIRE_POSTGRES_PORT", 54329),
        "rabbitmq": PortDefault("STEPWIRE_RABBITMQ_PORT", 56729),
        "collector": PortDefault("STEPWIRE_COLLECTOR_PORT", 43170),
        "executor": PortDefault("STEPWIRE_EXECUTOR_PORT", 50051),
        "executor-metrics": PortDefault("STEPWIRE_EXECUTOR_METRICS_PORT", 9101),
        "router": PortDefault("STEPWIRE_ROUTER_PORT", 50052),
        "router-http": PortDefault("STEPWIRE_ROUTER_HTTP_PORT", 50062),
        "router-metrics": PortDefault("STEPWIRE_ROUTER_METRICS_PORT", 9102),
        "vector": PortDefault("STEPWIRE_VECTOR_PORT", 50053),
        "vector-metrics": PortDefault("STEPWIRE_VECTOR_METRICS_PORT", 9103),
        "model": PortDefault("STEPWIRE_MODEL_PORT", 50054),
        "model-metrics": PortDefault("STEPWIRE_MODEL_METRICS_PORT", 9104),
        "companion": PortDefault("STEPWIRE_COMPANION_PORT", 50055),
        "companion-http": PortDefault("STEPWIRE_COMPANION_HTTP_PORT", 50065),
        "companion-metrics": PortDefault("STEPWIRE_COMPANION_METRICS_PORT", 9105),
        "gateway": PortDefault("STEPWIRE_GATEWAY_PORT", 8080),
        "gateway-admin": PortDefault("STEPWIRE_GATEWAY_ADMIN_PORT", 9901),
        # The first worker's; the others follow it.
        "worker-metrics": PortDefault("STEPWIRE_WORKER_METRICS_PORT", 9111),
    }
)


class PortPlan:
    """Says which port is whose: a variable's value, or the default plus the offset."""

    def __init__(self, offset: int, environment: Mapping[str, str]) -> None:
        self._offset = offset
        self._environment = environment

    def number(self, name: str) -> int:
        """Returns the port of this name in `DEFAULTS`.

        Raises:
            PortError: Its variable holds no port number, or the offset leads too far.
        """
        default = DEFAULTS[name]
        text = self._environment.get(default.variable, "")
        try:
            port = int(text) if text else default.number + self._offset
        except ValueError as error:
            raise PortError(f"{default.variable}={text!r} is not a port number") from error
        if not 0 < port <= HIGHEST_PORT:
            source = default.variable if text else f"the port offset {self._offset}"
            raise PortError(f"{source} gives {name} the port {port}, which does not exist")
        return port


@dataclass(frozen=True)
class PortClaim:
    """A part's intention to listen on a port."""

    part: str
    port: int
    variable: str


def check_free(claims: Iterable[PortClaim]) -> None:
    """Makes sure that every claimed port is free, and claimed once.

    Raises:
        PortError: One is not. The message names all that are not, their owners if
            they can be seen, and how to move them.
    """
    faults, held = [], []
    owners: dict[int, str] = {}
    for claim in claims:
        if claim.port in owners:
            faults.append(
                f"{claim.part} and {owners[claim.port]} both want port {claim.port}: "
                f"set {claim.variable} to another"
            )
        elif not is_free(claim.port):
            holder = _holder(claim.port)
            faults.append(f"{claim.part} needs port {claim.port}, which {holder} holds")
            held.append(claim.variable)
        owners[claim.port] = claim.part
    if held:
        # Many are held by one thing: mostly another stack. It is told once how they are moved.
        faults.append(
            f"-> end what holds {'it' if len(held) == 1 else 'them'}; or move all ports of this "
            f"stack with --port-offset 100 or {PORT_OFFSET_VARIABLE}=100; or set {held[0]}"
            + (", and so on" if len(held) > 1 else "")
        )
    if faults:
        raise PortError("\n".join(faults))


def is_free(port: int) -> bool:
    """Returns whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a finished server in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Returns a port that is free now; another process may take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _holder(port: int) -> str:
    """Returns who listens on a port, as far as this user may know."""
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        if connection.status != psutil.CONN_LISTEN or not address or address.port != port:
            continue
        if connection.pid is None:
            break
        try:
            name = psutil.Process(connection.pid).name()
        except psutil.Error:
            break
        return f"process {connection.pid} ({name})"
    return "another process"
