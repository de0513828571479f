"""The kinds of things that the mesh is described in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto


class Upstream(StrEnum):
    """A process behind the gateway; the value names its Envoy cluster."""

    EXECUTOR = auto()
    ROUTER = auto()
    VECTOR = auto()
    MODEL = auto()
    COMPANION = auto()


class Behaviour(Enum):
    """What the gateway may do with a call of a method."""

    WRITE = auto()
    """Changes something: tried again only when it surely reached no service."""
    READ = auto()
    """Changes nothing, so that it may be tried again when a service is unavailable."""
    LONG_POLL = auto()
    """A read that waits for something to happen, for minutes."""
    STREAM = auto()
    """A read that streams for as long as the client listens."""
    WRITE_STREAM = auto()
    """Streams for as long as it takes, and changes something or costs money."""


class Scope(StrEnum):
    """What a key must allow for a call to pass; the names of `KeyScope` in the proto."""

    READ = auto()
    """Calls that change nothing."""
    WRITE = auto()
    """Calls that change something of the tenant's, or cost money."""
    ADMIN = auto()
    """Calls that concern all tenants, or say what a tenant may spend."""


@dataclass(frozen=True)
class PublicService:
    """A proto service that clients reach through the gateway.

    Attributes:
        name: Its full proto name.
        upstream: The process that answers it.
        methods: Behaviour of its methods; those not named are writes.
        admin: Methods that only operators may call.
        json: Whether its methods are also reached as JSON over HTTP.
        protocol: Whether the service is of gRPC itself (health, reflection) and not
            of Stepwire: it needs no key.
    """

    name: str
    upstream: Upstream
    methods: Mapping[str, Behaviour] = field(default_factory=dict)
    admin: frozenset[str] = frozenset()
    json: bool = True
    protocol: bool = False

    def behaviour(self, method: str) -> Behaviour:
        """Returns how a method behaves."""
        return self.methods.get(method, Behaviour.WRITE)

    def scope(self, method: str) -> Scope | None:
        """Returns what a key must allow for a method; None where no key is asked for."""
        if self.protocol:
            return None
        return Scope.ADMIN if method in self.admin else scope_of(self.behaviour(method))


def scope_of(behaviour: Behaviour) -> Scope:
    """Returns what a key must allow for a call that behaves so."""
    writes = behaviour in {Behaviour.WRITE, Behaviour.WRITE_STREAM}
    return Scope.WRITE if writes else Scope.READ


@dataclass(frozen=True)
class PublicPath:
    """Paths of HTTP that reach a process as they are: of an API that is not ours.

    Attributes:
        path: The path; one that ends with `/` stands for all that have one more part, and
            are read.
        behaviour: What the gateway may do with a call.
    """

    path: str
    behaviour: Behaviour
