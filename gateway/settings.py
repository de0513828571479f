"""Settings of the gateway: what Envoy is told, and what the companion needs."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.mesh import Upstream
from stepwire.settings import MEBIBYTE, ServiceSettings

Target = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):[0-9]{1,5}$")]
"""Host and port as `host:port`; an IPv6 address stands in brackets."""

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/:*]+(:([0-9]{1,5}|\*))?$")]
"""A web origin; `*` as the port means any port."""


class GatewaySettings(BaseSettings):
    """What Envoy's configuration is rendered from."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_GATEWAY_", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address on which clients are served.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port on which clients are served.")
    admin_port: int = Field(
        default=9901,
        ge=1,
        le=65535,
        description="Port of Envoy's admin interface and of its Prometheus metrics "
        "(/stats/prometheus); always on the loopback address.",
    )
    executor_target: Target = Field(
        default="127.0.0.1:50051", description="Where executor_svc listens."
    )
    router_target: Target = Field(
        default="127.0.0.1:50052", description="Where router_svc listens."
    )
    router_http_target: Target = Field(
        default="127.0.0.1:50062",
        description="Where router_svc listens for the OpenAI-compatible HTTP.",
    )
    vector_target: Target = Field(
        default="127.0.0.1:50053", description="Where vector_svc listens."
    )
    model_target: Target = Field(default="127.0.0.1:50054", description="Where model_svc listens.")
    companion_target: Target = Field(
        default="127.0.0.1:50055", description="Where the gateway's companion listens."
    )
    otlp_target: Target | None = Field(
        default=None,
        description="OpenTelemetry collector (OTLP over gRPC) that gets the gateway's spans; "
        "none by default.",
    )
    trace_sampling_percent: float = Field(
        default=100,
        ge=0,
        le=100,
        description="Share of the calls without a trace of their own that get one.",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        default=("http://localhost:*", "http://127.0.0.1:*"),
        description="Web origins whose pages may call the gateway, separated by commas; `*` as "
        "the port means any port. Calls of pages of other origins are refused.",
    )
    access_log: str = Field(
        default="-",
        description="File that gets one JSON line per call; `-` means standard output, empty none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Least severe level of Envoy's own log lines."
    )
    concurrency: int = Field(
        default=1, ge=1, description="Worker threads of Envoy; one carries about 15,000 calls/s."
    )
    default_deadline_seconds: float = Field(
        default=60,
        gt=0,
        description="Deadline of a call whose client set none, watches excepted.",
    )
    max_deadline_seconds: float = Field(
        default=600, gt=0, description="Longest deadline that a client can set, watches excepted."
    )
    long_poll_seconds: float = Field(
        default=310,
        gt=0,
        description="Deadline of a WaitTask call whose client set none; a little more than the "
        "longest wait that the executor grants.",
    )
    max_json_request_bytes: int = Field(
        default=16 * MEBIBYTE, ge=1024, description="Largest JSON request that is taken."
    )
    max_json_response_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=1024,
        description="Largest response, or message of a stream, that is turned into JSON.",
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="Client connections open at the same time."
    )
    max_upstream_requests: int = Field(
        default=4096,
        ge=1,
        description="Calls under way to one service, streams included; one more is refused with "
        "OVERLOADED. Above the services' own limits, which say more.",
    )
    max_heap_bytes: int = Field(
        default=1024 * MEBIBYTE,
        ge=64 * MEBIBYTE,
        description="Memory of Envoy; near it new calls are refused.",
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("otlp_target", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None

    def target(self, upstream: Upstream) -> str:
        """Returns where an upstream listens."""
        return {
            Upstream.EXECUTOR: self.executor_target,
            Upstream.ROUTER: self.router_target,
            Upstream.VECTOR: self.vector_target,
            Upstream.MODEL: self.model_target,
            Upstream.COMPANION: self.companion_target,
        }[upstream]


class CompanionSettings(ServiceSettings):
    """Settings of the companion service."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_COMPANION_", frozen=True)

    port: int = Field(
        default=50055, ge=0, le=65535, description="Port of the gRPC server; 0 takes a free one."
    )
    executor_target: Target = Field(
        default="127.0.0.1:50051", description="Where executor_svc listens."
    )
    router_target: Target = Field(
        default="127.0.0.1:50052", description="Where router_svc listens."
    )
    vector_target: Target = Field(
        default="127.0.0.1:50053", description="Where vector_svc listens."
    )
    model_target: Target = Field(default="127.0.0.1:50054", description="Where model_svc listens.")
    owner_timeout_seconds: float = Field(
        default=2,
        gt=0,
        description="Time that a service has to tell its health; later it counts as not serving.",
    )

    def targets(self) -> dict[Upstream, str]:
        """Returns where each upstream that has a health of its own listens."""
        return {
            Upstream.EXECUTOR: self.executor_target,
            Upstream.ROUTER: self.router_target,
            Upstream.VECTOR: self.vector_target,
            Upstream.MODEL: self.model_target,
        }
