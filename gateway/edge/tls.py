"""TLS at the listener, with a certificate that may be renewed while Envoy runs."""

from pathlib import Path
from typing import Final

from gateway.envoy.core import DataSource, TypedConfig
from gateway.envoy.tls import (
    CommonTlsContext,
    ConfigSource,
    DownstreamTlsContext,
    PathConfigSource,
    SdsSecretConfig,
    Secret,
    SecretFile,
    TlsCertificate,
    TlsParameters,
    TlsProtocol,
    WatchedDirectory,
)
from gateway.settings import GatewaySettings

_NAME: Final = "edge"


def tls(settings: GatewaySettings, *, secrets: Path) -> TypedConfig | None:
    """Returns what encrypts the listener's connections; None for cleartext.

    Args:
        settings: Whether there is a certificate.
        secrets: Where `secret_file` lies: what is in the configuration itself, Envoy would
            read once and never again.
    """
    if not settings.tls_certificate_file:
        return None
    source = ConfigSource(path_config_source=PathConfigSource(path=str(secrets)))
    return TypedConfig(
        name="envoy.transport_sockets.tls",
        typed_config=DownstreamTlsContext(
            common_tls_context=CommonTlsContext(
                tls_params=TlsParameters(tls_minimum_protocol_version=TlsProtocol.TLSv1_2),
                tls_certificate_sds_secret_configs=(
                    SdsSecretConfig(name=_NAME, sds_config=source),
                ),
                alpn_protocols=("h2", "http/1.1"),
            )
        ),
    )


def secret_file(settings: GatewaySettings) -> SecretFile | None:
    """Returns the file that says where certificate and key lie; None for cleartext."""
    if not settings.tls_certificate_file:
        return None
    certificate = TlsCertificate(
        certificate_chain=DataSource(filename=settings.tls_certificate_file),
        private_key=DataSource(filename=settings.tls_key_file),
        # Kubernetes moves a link in it, certbot the files: either is noticed.
        watched_directory=WatchedDirectory(path=str(Path(settings.tls_certificate_file).parent)),
    )
    return SecretFile(resources=(Secret(name=_NAME, tls_certificate=certificate),))
