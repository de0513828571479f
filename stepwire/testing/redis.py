"""A real Redis or Valkey for tests: one private server per test process."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.stack.process import Command
from stepwire.testing.scratch import scratch_folder
from stepwire.testing.servers import running

# Either will do; they speak the same protocol.
SERVERS = ("valkey-server", "redis-server")
START_SECONDS = 30.0
SETTINGS = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
"""


@dataclass(frozen=True, kw_only=True)
class RedisServer:
    """One private server that keeps nothing on disk.

    Attributes:
        program: The server's program, from `find_server`.
        folder: Holds its settings and its log.
        port: Its port on 127.0.0.1.
        password: The password of its only user.
    """

    program: Path
    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """The server's URL, password included."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        """Writes the server's settings."""
        settings = SETTINGS.format(host=LOOPBACK, port=self.port, password=self.password)
        (self.folder / "server.conf").write_text(settings)

    def command(self) -> Command:
        """Returns the command that runs the server in the foreground."""
        return Command(
            arguments=(str(self.program), str(self.folder / "server.conf")),
            environment={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            folder=self.folder,
        )


def find_server() -> Path | None:
    """Returns the program of an installed Valkey or Redis, or None."""
    found = filter(None, map(shutil.which, SERVERS))
    return next(map(Path, found), None)


@contextmanager
def redis_server(program: Path) -> Iterator[RedisServer]:
    """Runs a server on a free port with a folder of its own, both gone afterwards."""
    with scratch_folder("redis", in_memory=True) as folder:
        server = RedisServer(
            program=program, folder=folder, port=free_port(), password=secrets.token_hex(16)
        )
        server.prepare()
        with running(
            "Redis",
            server.command(),
            partial(_answers, server),
            log=folder / "log",
            within_seconds=START_SECONDS,
        ):
            yield server


def _answers(server: RedisServer) -> bool:
    try:
        with socket.create_connection((LOOPBACK, server.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            # That it wants a password is an answer as well.
            return bool(connection.recv(1))
    except OSError:
        return False
