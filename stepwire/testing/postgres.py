"""A real Postgres for tests: one server per test process, one database per test."""

import os
import secrets
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepwire.stack.account import stand_ins
from stepwire.stack.ports import free_port
from stepwire.stack.postgres import PostgresError, PostgresServer, place
from stepwire.testing.poll import eventually_blocking

TEMPLATE = "stepwire_template"
START_SECONDS = 60.0


@contextmanager
def postgres_server(*, shared_buffers_mb: int = 64) -> Iterator[PostgresServer]:
    """Runs a server on a free port with a folder of its own, both gone afterwards.

    It has a database `stepwire_template` with the extension pgvector in it. fsync is on,
    as it is in the stack.

    Args:
        shared_buffers_mb: Postgres' own cache, in MiB.
    """
    wanted = Path(tempfile.mkdtemp(prefix="stepwire-postgres-"))
    folder, account = place(wanted, key="test")
    server = PostgresServer(
        folder=folder,
        port=free_port(),
        password=secrets.token_hex(16),
        account=account,
        shared_buffers_mb=shared_buffers_mb,
    )
    log = folder / "log"
    try:
        server.prepare()
        with log.open("wb") as output:
            process = server.command().start(output)
        try:
            eventually_blocking(
                lambda: process.poll() is not None or _answers(server), START_SECONDS
            )
            assert process.poll() is None, f"Postgres did not start: {log.read_text()}"
            server.run_sql(f"CREATE DATABASE {TEMPLATE}")
            server.run_sql("CREATE EXTENSION vector", database=TEMPLATE)
            yield server
        finally:
            # "Immediate" shutdown: nothing of the data is wanted any more.
            process.send_signal(signal.SIGQUIT)
            process.wait()
    finally:
        for path in (wanted, *stand_ins(wanted)):
            shutil.rmtree(path)


@contextmanager
def fresh_database(server: PostgresServer) -> Iterator[str]:
    """Makes a database from the template and gives its URL; drops it afterwards."""
    name = f"test_{os.getpid()}_{uuid.uuid4().hex[:12]}"
    server.run_sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield server.url(name)
    finally:
        server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


def _answers(server: PostgresServer) -> bool:
    try:
        server.run_sql("SELECT 1")
    except PostgresError:
        return False
    return True
