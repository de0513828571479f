"""Settings that every process has: where it listens, its limits, how it stops.

A service subclasses `ServiceSettings`, a process without a gRPC server `DependentSettings`
or `ProcessSettings`; each sets its own `env_prefix`, e.g. `STEPWIRE_ROUTER_`, so that the
field `port` is read from `STEPWIRE_ROUTER_PORT`. Settings are read once, in `__main__`,
and never at import.
"""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepwire import failpoints

MEBIBYTE = 1024 * 1024


class ProcessSettings(BaseSettings):
    """What every long-running process has."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = Field(
        default="127.0.0.1",
        description="Address on which the process listens: for calls and for metrics scrapes.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port that serves Prometheus metrics over HTTP; 0 serves none.",
    )
    drain_seconds: float = Field(
        default=10,
        ge=1,
        description="Longest time between SIGTERM and exit: for calls and work under way to end, "
        "for closing what is open, and for sending the last telemetry.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="Least severe level of log lines that are written.",
    )
    event_loop: Literal["uvloop", "asyncio"] = Field(
        default="uvloop",
        description="The event loop's implementation.",
    )
    failpoints: str = Field(
        default="",
        description="Faults for tests to inject, such as `settle.committed=kill@7`; see "
        "`stepwire/failpoints.py`. Empty: none.",
    )

    @field_validator("failpoints")
    @classmethod
    def _readable(cls, text: str) -> str:
        failpoints.parse(text)
        return text


class DependentSettings(ProcessSettings):
    """What a process has besides that stands on others."""

    start_seconds: float = Field(
        default=30,
        ge=0,
        description="How long the process waits, when it starts, for what it stands on and is "
        "away, such as Postgres; then it exits. 0: it does not wait.",
    )


class ServiceSettings(DependentSettings):
    """What every gRPC service has besides."""

    port: int = Field(
        ge=0,
        le=65535,
        description="Port of the gRPC server; 0 takes a free one.",
    )
    max_concurrent_calls: int = Field(
        default=1024,
        ge=1,
        description="Calls handled at the same time, streams not counted; one more is "
        "refused with OVERLOADED.",
    )
    max_streams: int = Field(
        default=1024,
        ge=1,
        description="Streams, of either side, open at the same time; one more is refused with "
        "OVERLOADED.",
    )
    max_deadline_seconds: float = Field(
        default=600,
        gt=0,
        description="Longest deadline of a unary call; a later one of the caller is cut to this.",
    )
    default_deadline_seconds: float = Field(
        default=60,
        gt=0,
        description="Deadline of a unary call whose caller set none.",
    )
    max_message_bytes: int = Field(
        default=4 * MEBIBYTE,
        ge=1024,
        description="Largest message that the server receives or sends.",
    )
    linger_seconds: float = Field(
        default=0,
        ge=0,
        description="How long a process that was told to stop goes on taking calls, while its "
        "health says NOT_SERVING: until whoever balances calls over several has noticed. Part of "
        "drain_seconds.",
    )
    max_connection_seconds: float = Field(
        default=300,
        ge=0,
        description="Age, varied by a tenth, at which a connection is closed as soon as its calls "
        "have ended, so that clients come upon instances that were added. 0: never.",
    )
    reflection: bool = Field(
        default=True,
        description="Whether the server describes its services to tools such as grpcurl.",
    )


class CallStreamSettings(ServiceSettings):
    """What a service has besides that offers streams of calls."""

    max_calls_per_stream: int = Field(
        default=64,
        ge=1,
        description="Calls of one stream handled at the same time; further ones wait unread.",
    )
