"""Settings of the gateway: what Envoy is told, and what the companion needs."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.public import Upstream
from stepwire.api_keys import read_reference
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
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port, on the host's address, that serves /stats/prometheus and /ready of the "
        "admin interface and nothing else of it; 0 serves none.",
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
    companion_http_target: Target = Field(
        default="127.0.0.1:50065",
        description="Where the gateway's companion says whether a call may pass.",
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

    authentication: Literal["off", "keys"] = Field(
        default="off",
        description="Whether calls need a key: `keys`, or `off`. With `keys` the companion needs "
        "its setting `postgres_url`. Health and reflection need none either way.",
    )
    allow_unauthenticated: bool = Field(
        default=False,
        description="Whether the gateway may listen beyond the loopback address with "
        "`authentication` off. Whoever reaches it then may do everything.",
    )

    tls_certificate_file: str = Field(
        default="",
        description="Certificate of the gateway, with those that lead to its authority, as PEM. "
        "A new one that is moved into its folder is taken without a restart. Empty: cleartext.",
    )
    tls_key_file: str = Field(
        default="", description="Private key of the certificate, as PEM, in the same folder."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        return self

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (
            self.authentication == "off"
            and not self.allow_unauthenticated
            and not is_loopback(self.host)
        ):
            raise ValueError(
                f"host {self.host} is open to other machines: set authentication to `keys`, or "
                "allow_unauthenticated if everybody there may do everything"
            )
        return self

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


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class CompanionSettings(ServiceSettings):
    """Settings of the companion service."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_COMPANION_", frozen=True)

    port: int = Field(
        default=50055, ge=0, le=65535, description="Port of the gRPC server; 0 takes a free one."
    )
    http_port: int = Field(
        default=50065,
        ge=0,
        le=65535,
        description="Port on which Envoy asks whether a call may pass, where keys are kept; 0 "
        "takes a free one.",
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

    postgres_url: SecretStr = Field(
        default=SecretStr(""),
        description="Secret. Database of keys, as postgresql://user@host:port/name. Empty keeps "
        "none: the gateway's `authentication` must be off then.",
    )
    postgres_max_connections: int = Field(
        default=4, ge=1, description="Most connections to Postgres."
    )
    first_key: SecretStr = Field(
        default=SecretStr(""),
        description="Secret. A key with all scopes, of the tenant `default`, that is added when "
        "the companion starts, unless it was added before: its text, or `ID:SHA256`, as "
        "`stepwire keys generate` prints both. Once revoked it stays so.",
    )
    key_cache_seconds: float = Field(
        default=5,
        ge=0,
        description="How long a key is believed without asking Postgres again: the longest time "
        "that another companion lets pass a key after it was revoked.",
    )
    key_grace_seconds: float = Field(
        default=600,
        ge=0,
        description="How long a key that was good is believed while Postgres is away. Others are "
        "refused with UNAVAILABLE then.",
    )
    key_lookup_seconds: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="How long a call waits for Postgres to tell of its key; later it counts as "
        "away. Envoy waits for a second.",
    )

    @field_validator("first_key")
    @classmethod
    def _readable_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and read_reference(value.get_secret_value()) is None:
            raise ValueError("is neither a key nor ID:SHA256")
        return value

    def targets(self) -> dict[Upstream, str]:
        """Returns where each upstream that has a health of its own listens."""
        return {
            Upstream.EXECUTOR: self.executor_target,
            Upstream.ROUTER: self.router_target,
            Upstream.VECTOR: self.vector_target,
            Upstream.MODEL: self.model_target,
        }
