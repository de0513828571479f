"""Messages that several parts of the configuration share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from gateway.envoy.message import Message


@dataclass(frozen=True, kw_only=True)
class SocketAddress(Message):
    """config.core.v3.SocketAddress."""

    address: str
    port_value: int


@dataclass(frozen=True, kw_only=True)
class Address(Message):
    """config.core.v3.Address."""

    socket_address: SocketAddress


@dataclass(frozen=True, kw_only=True)
class TypedConfig(Message):
    """An extension: its name, and its configuration as an Any."""

    name: str
    typed_config: Message


@dataclass(frozen=True, kw_only=True)
class DataSource(Message):
    """config.core.v3.DataSource; one of the two is set."""

    inline_string: str | None = None
    filename: str | None = None


class AppendAction(Enum):
    """config.core.v3.HeaderValueOption.HeaderAppendAction."""

    APPEND_IF_EXISTS_OR_ADD = auto()
    ADD_IF_ABSENT = auto()
    OVERWRITE_IF_EXISTS_OR_ADD = auto()


@dataclass(frozen=True, kw_only=True)
class HeaderValue(Message):
    """config.core.v3.HeaderValue."""

    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class HeaderValueOption(Message):
    """config.core.v3.HeaderValueOption."""

    header: HeaderValue
    append_action: AppendAction


@dataclass(frozen=True, kw_only=True)
class RegexMatcher(Message):
    """type.matcher.v3.RegexMatcher (RE2, matched against the whole value)."""

    regex: str


@dataclass(frozen=True, kw_only=True)
class StringMatcher(Message):
    """type.matcher.v3.StringMatcher; exactly one field is set."""

    exact: str | None = None
    prefix: str | None = None
    safe_regex: RegexMatcher | None = None


@dataclass(frozen=True, kw_only=True)
class HeaderMatcher(Message):
    """config.route.v3.HeaderMatcher; one of the two matches is set."""

    name: str
    string_match: StringMatcher | None = None
    present_match: bool | None = None
    invert_match: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Percent(Message):
    """type.v3.Percent, from 0 to 100."""

    value: float


class Denominator(Enum):
    """type.v3.FractionalPercent.DenominatorType."""

    MILLION = auto()


@dataclass(frozen=True, kw_only=True)
class FractionalPercent(Message):
    """type.v3.FractionalPercent: a share of whole numbers."""

    numerator: int
    denominator: Denominator


@dataclass(frozen=True, kw_only=True)
class SubstitutionFormat(Message):
    """config.core.v3.SubstitutionFormatString; one of the two formats is set.

    Texts inside may hold Envoy's command operators, such as `%RESPONSE_CODE%`.
    """

    json_format: Mapping[str, Any] | None = None
    text_format_source: DataSource | None = None
    content_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class EnvoyGrpc(Message):
    """config.core.v3.GrpcService.EnvoyGrpc."""

    cluster_name: str


@dataclass(frozen=True, kw_only=True)
class GrpcService(Message):
    """config.core.v3.GrpcService."""

    envoy_grpc: EnvoyGrpc
    timeout: timedelta


@dataclass(frozen=True, kw_only=True)
class TcpKeepalive(Message):
    """config.core.v3.TcpKeepalive; times in whole seconds."""

    keepalive_probes: int
    keepalive_time: int
    keepalive_interval: int


@dataclass(frozen=True, kw_only=True)
class KeepaliveSettings(Message):
    """config.core.v3.KeepaliveSettings: HTTP/2 pings."""

    interval: timedelta
    timeout: timedelta
    connection_idle_interval: timedelta


@dataclass(frozen=True, kw_only=True)
class Http2ProtocolOptions(Message):
    """config.core.v3.Http2ProtocolOptions."""

    max_concurrent_streams: int | None = None
    initial_stream_window_size: int
    initial_connection_window_size: int
    connection_keepalive: KeepaliveSettings


def address(host: str, port: int) -> Address:
    """Returns the address of a TCP socket."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def header(key: str, value: str, action: AppendAction) -> HeaderValueOption:
    """Returns the option that sets one header."""
    return HeaderValueOption(header=HeaderValue(key=key, value=value), append_action=action)
