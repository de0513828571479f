"""How a client reaches the gateway: its address, TLS, and the key."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from stepwire.api_keys import VARIABLE
from stepwire.errors import field_invalid
from stepwire.rpc import open_channel

CA_VARIABLE: Final = "STEPWIRE_CA_FILE"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is, and whether it speaks TLS."""

    target: str
    tls: bool


def read_address(text: str) -> Address:
    """Reads `host:port`, which is in the clear, or a URL: `https://host` or `http://host:port`.

    Raises:
        StepwireError: FIELD_INVALID for a URL of another kind, or with more than that.
    """
    if "://" not in text:
        return Address(text, tls=False)
    url = urlsplit(text)
    if url.scheme not in _PORTS or not url.hostname or url.path.strip("/") or url.query:
        raise field_invalid("target", "must be host:port, or https:// or http:// and a host")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Address(f"{host}:{url.port or _PORTS[url.scheme]}", tls=url.scheme == "https")


def open_gateway(
    address: Address, *, api_key: str | None = None, ca_file: str | None = None
) -> grpc.aio.Channel:
    """Opens a channel to the gateway; calls that fail by UNAVAILABLE are made again.

    Args:
        address: Where it is.
        api_key: With which to call; None takes that of STEPWIRE_API_KEY, and "" none.
        ca_file: PEM file of the authorities that are trusted; None takes that of
            STEPWIRE_CA_FILE, and without any gRPC's own list is taken.

    Raises:
        OSError: The file cannot be read.
        StepwireError: FIELD_INVALID for a key that no header can hold.
    """
    key = (os.environ.get(VARIABLE, "") if api_key is None else api_key).strip()
    if not (key.isascii() and key.isprintable()):
        raise field_invalid("api_key", f"(or {VARIABLE}) has characters that are in no key")
    # Safe to call twice: changing calls carry a request id, or write what is given.
    return open_channel(
        address.target,
        headers=(("authorization", f"Bearer {key}"),) if key else (),
        credentials=_credentials(ca_file) if address.tls else None,
    )


def _credentials(ca_file: str | None) -> grpc.ChannelCredentials:
    path = os.environ.get(CA_VARIABLE, "") if ca_file is None else ca_file
    return grpc.ssl_channel_credentials(Path(path).read_bytes() if path else None)
