"""gRPC passes over channel arguments that it does not know, so a misspelt one does nothing."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from stepwire.rpc.channel import channel_options
from stepwire.rpc.server import server_options
from stepwire.settings import ServiceSettings

LIBRARY = Path(cygrpc.__file__).read_bytes()
OPTIONS = [*server_options(ServiceSettings(port=0)), *channel_options(max_message_bytes=1)]


@pytest.mark.parametrize("name", sorted({name for name, _ in OPTIONS}))
def test_grpc_knows_every_option_that_we_set(name: str) -> None:
    assert name.encode() in LIBRARY


def test_a_misspelt_option_would_be_found() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in LIBRARY
