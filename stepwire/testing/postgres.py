"""A real Postgres for tests: one server per test process, one database per test."""

import os
import secrets
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from stepwire.stack.account import stand_ins
from stepwire.stack.ports import free_port
from stepwire.stack.postgres import PostgresError, PostgresServer, place
from stepwire.testing.scratch import is_in_memory, scratch_folder
from stepwire.testing.servers import running

TEMPLATE = "stepwire_template"
START_SECONDS = 60.0


@contextmanager
def postgres_server(
    *, shared_buffers_mb: int = 64, in_memory: bool = False
) -> Iterator[PostgresServer]:
    """Runs a server on a free port with a folder of its own, both gone afterwards.

    It has a database `stepwire_template` with the extension pgvector in it. fsync is on,
    as it is in the stack.

    Args:
        shared_buffers_mb: Postgres' own cache, in MiB.
        in_memory: Whether its data may lie in memory, for tests that neither measure it
            nor are about what the disk keeps.
    """
    with scratch_folder("postgres", in_memory=in_memory) as wanted:
        folder, account = place(wanted, key="test")
        server = PostgresServer(
            folder=folder,
            port=free_port(),
            password=secrets.token_hex(16),
            account=account,
            shared_buffers_mb=shared_buffers_mb,
        )
        try:
            server.prepare()
            with running(
                "Postgres",
                server.command(),
                partial(_answers, server),
                log=server.folder / "log",
                within_seconds=START_SECONDS,
                end=signal.SIGQUIT,  # "immediate" shutdown
            ):
                server.run_sql(f"CREATE DATABASE {TEMPLATE}")
                server.run_sql("CREATE EXTENSION vector", database=TEMPLATE)
                yield server
        finally:
            for path in stand_ins(wanted):
                shutil.rmtree(path)


@contextmanager
def fresh_database(server: PostgresServer, *, template: str = TEMPLATE) -> Iterator[str]:
    """Makes a database from a template and gives its URL; drops it afterwards."""
    name = f"test_{os.getpid()}_{uuid.uuid4().hex[:12]}"
    # Files are the faster copy, but have to reach the disk first if they lie on one.
    strategy = "file_copy" if is_in_memory(server.folder) else "wal_log"
    server.run_sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {strategy}")
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
