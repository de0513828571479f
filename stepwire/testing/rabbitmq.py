"""A real RabbitMQ for tests: one private node per test process."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.stack.rabbitmq import RabbitServer, is_ready
from stepwire.testing.scratch import scratch_folder
from stepwire.testing.servers import running

START_SECONDS = 90.0


@contextmanager
def rabbitmq_server(script: Path, *, in_memory: bool = False) -> Iterator[RabbitServer]:
    """Runs a node on a free port with a folder of its own, both gone afterwards.

    Its data may lie in memory if `in_memory` is set.
    """
    with scratch_folder("rabbitmq", in_memory=in_memory) as folder:
        server = RabbitServer(
            script=script, folder=folder, port=free_port(), password=secrets.token_hex(16)
        )
        server.prepare()
        with running(
            "RabbitMQ",
            server.command(),
            partial(_answers, server),
            log=folder / "console.log",
            within_seconds=START_SECONDS,
        ):
            yield server


def _answers(server: RabbitServer) -> bool:
    try:
        socket.create_connection((LOOPBACK, server.port), timeout=1).close()
    except OSError:
        return False
    return is_ready(server.url)
