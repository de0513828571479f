"""A real RabbitMQ for tests: one private node per test process."""

import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.stack.rabbitmq import RabbitServer, is_ready
from stepwire.testing.poll import eventually_blocking

START_SECONDS = 90.0


@contextmanager
def rabbitmq_server(script: Path) -> Iterator[RabbitServer]:
    """Runs a node on a free port with a folder of its own, both gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="stepwire-rabbitmq-"))
    server = RabbitServer(
        script=script, folder=folder, port=free_port(), password=secrets.token_hex(16)
    )
    log = folder / "console.log"
    try:
        server.prepare()
        with log.open("wb") as output:
            process = server.command().start(output)
        try:
            eventually_blocking(
                lambda: process.poll() is not None or _answers(server), START_SECONDS
            )
            assert process.poll() is None, f"RabbitMQ did not start: {log.read_text()}"
            yield server
        finally:
            # Nothing of its data is wanted any more.
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _answers(server: RabbitServer) -> bool:
    try:
        socket.create_connection((LOOPBACK, server.port), timeout=1).close()
    except OSError:
        return False
    return is_ready(server.url)
