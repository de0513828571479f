"""TLS towards clients."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from gateway.envoy.core import DataSource
from gateway.envoy.message import Message

_TLS = "envoy.extensions.transport_sockets.tls.v3."


class TlsProtocol(Enum):
    """…TlsParameters.TlsProtocol."""

    TLSv1_2 = auto()


@dataclass(frozen=True, kw_only=True)
class PathConfigSource(Message):
    """config.core.v3.PathConfigSource."""

    path: str


@dataclass(frozen=True, kw_only=True)
class ConfigSource(Message):
    """config.core.v3.ConfigSource, of its forms the one used."""

    path_config_source: PathConfigSource


@dataclass(frozen=True, kw_only=True)
class SdsSecretConfig(Message):
    """…SdsSecretConfig: where a secret is found."""

    name: str
    sds_config: ConfigSource


@dataclass(frozen=True, kw_only=True)
class TlsParameters(Message):
    """…TlsParameters."""

    tls_minimum_protocol_version: TlsProtocol


@dataclass(frozen=True, kw_only=True)
class CommonTlsContext(Message):
    """…CommonTlsContext."""

    tls_params: TlsParameters
    tls_certificate_sds_secret_configs: tuple[SdsSecretConfig, ...]
    alpn_protocols: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DownstreamTlsContext(Message):
    """…DownstreamTlsContext."""

    TYPE: ClassVar[str] = _TLS + "DownstreamTlsContext"

    common_tls_context: CommonTlsContext


@dataclass(frozen=True, kw_only=True)
class WatchedDirectory(Message):
    """config.core.v3.WatchedDirectory: what is moved into it is noticed."""

    path: str


@dataclass(frozen=True, kw_only=True)
class TlsCertificate(Message):
    """…TlsCertificate."""

    certificate_chain: DataSource
    private_key: DataSource
    watched_directory: WatchedDirectory


@dataclass(frozen=True, kw_only=True)
class Secret(Message):
    """…Secret."""

    TYPE: ClassVar[str] = _TLS + "Secret"

    name: str
    tls_certificate: TlsCertificate


@dataclass(frozen=True, kw_only=True)
class SecretFile(Message):
    """service.discovery.v3.DiscoveryResponse, as a file of secrets."""

    resources: tuple[Secret, ...]
