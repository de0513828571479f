"""Postgres and RabbitMQ of the chaos runs: real servers, to be crashed, filled and moved."""

import asyncio
import dataclasses
import secrets
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from stepwire.stack import postgres, rabbitmq
from stepwire.stack.account import stand_ins
from stepwire.stack.ports import free_port
from stepwire.stack.postgres import PostgresServer, place
from stepwire.stack.probes import port_open
from stepwire.stack.rabbitmq import RabbitServer
from stepwire.testing.poll import eventually
from tests.chaos.clocks import Clocks

START_SECONDS = 90.0
DISK_BYTES = 320 * 2**20
# So that the log does not fill the disk by itself.
POSTGRES_OPTIONS = ("-c", "max_wal_size=64MB")
POSTGRES_CLOCK = "postgres"
FILLING = bytes(4096)
NO_SPACE = "No space left on device"


class Servers:
    """The two servers. Their processes end with the one that started them."""

    def __init__(self, folder: Path, postgres_folder: Path, account: str | None) -> None:
        self.folder = folder
        self.clocks = Clocks(folder)
        self.postgres = PostgresServer(
            folder=postgres_folder,
            port=free_port(),
            password=secrets.token_hex(16),
            account=account,
            shared_buffers_mb=64,
        )
        script = rabbitmq.find_script()
        assert script is not None, "rabbitmq-server is not installed"
        self.rabbit = RabbitServer(
            script=script,
            folder=folder / "rabbitmq",
            port=free_port(),
            password=secrets.token_hex(16),
        )
        self.has_own_disk = mount_disk(postgres_folder)
        self._postgres: subprocess.Popen[bytes] | None = None
        self._rabbit: subprocess.Popen[bytes] | None = None

    @property
    def postgres_log(self) -> Path:
        return self.folder / "postgres.log"

    async def start(self) -> None:
        """Start both."""
        self.postgres.prepare()
        self.rabbit.prepare()
        self._start_postgres()
        self._start_rabbit()
        await self.ready()

    async def ready(self) -> None:
        """Wait until both answer; one that has ended is started again, as by a supervisor."""
        await eventually(self._postgres_answers, START_SECONDS)
        await eventually(self._rabbit_answers, START_SECONDS)

    def stop(self) -> None:
        """End both at once; nothing of their data is wanted any more."""
        for process in (self._postgres, self._rabbit):
            if process is not None:
                process.send_signal(signal.SIGQUIT if process is self._postgres else signal.SIGKILL)
                process.wait()
        if self.has_own_disk:
            subprocess.run(["umount", "--lazy", self.postgres.folder], check=True)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """Make a database, give its URL, drop it."""
        name = f"chaos_{uuid.uuid4().hex[:12]}"
        await self._sql(f"CREATE DATABASE {name}")
        try:
            yield self.postgres.url(name)
        finally:
            await self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def without_postgres(self, number: signal.Signals) -> AsyncIterator[None]:
        """End Postgres by a signal, and start it again when the block ends.

        SIGINT ends it in good order, SIGQUIT as a crash does.
        """
        process = self._postgres
        assert process is not None
        process.send_signal(number)
        await eventually(lambda: process.poll() is not None, START_SECONDS)
        try:
            yield
        finally:
            self._start_postgres()
            await eventually(self._postgres_answers, START_SECONDS)
        assert self._postgres is not process

    @asynccontextmanager
    async def without_rabbit(self) -> AsyncIterator[None]:
        """Kill RabbitMQ, and start it again when the block ends."""
        process = self._rabbit
        assert process is not None
        process.kill()
        await eventually(lambda: process.poll() is not None, START_SECONDS)
        try:
            yield
        finally:
            self._start_rabbit()
            await eventually(self._rabbit_answers, START_SECONDS)

    async def terminate_backends(self, url: str) -> int:
        """End all connections to a database; return how many there were."""
        rows = await self._sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{url.rpartition('/')[2]}'"
        )
        return len(rows)

    async def postgres_time(self) -> float:
        """What Postgres takes for the time of day, in seconds."""
        (row,) = await self._sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(row[0])

    def count_no_space(self) -> int:
        """How often Postgres has said that its disk was full."""
        return self.postgres_log.read_text("utf-8", "replace").count(NO_SPACE)

    def fill_disk(self) -> None:
        """Take all the room that is left where Postgres writes."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            # While Postgres writes too, nobody knows how much is left.
            while True:
                file.write(FILLING)

    def free_disk(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.postgres.folder / "filler"

    def _start_postgres(self) -> None:
        command = self.postgres.command()
        command = dataclasses.replace(command, arguments=(*command.arguments, *POSTGRES_OPTIONS))
        with self.postgres_log.open("ab") as log:
            self._postgres = self.clocks.under(POSTGRES_CLOCK, command).start(log)

    def _start_rabbit(self) -> None:
        with (self.folder / "rabbitmq.log").open("ab") as log:
            self._rabbit = self.rabbit.command().start(log)

    async def _postgres_answers(self) -> bool:
        assert self._postgres is not None
        if self._postgres.poll() is not None:
            self._start_postgres()
        return await postgres.is_ready(self.postgres.url("postgres"))

    async def _rabbit_answers(self) -> bool:
        assert self._rabbit is not None
        if self._rabbit.poll() is not None:
            self._start_rabbit()
        if not await port_open(self.rabbit.port):
            return False
        return await asyncio.to_thread(rabbitmq.is_ready, self.rabbit.url)

    async def _sql(self, statement: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.postgres.url("postgres"))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()


def mount_disk(folder: Path) -> bool:
    """Put a small disk of its own behind a folder; False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    return mounted.returncode == 0


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stepwire-chaos-"))
    # Postgres' account must reach the library that moves its clock.
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def running_servers() -> AsyncIterator[Servers]:
    """Run both servers with folders of their own, all gone afterwards."""
    folder = _make_folder()
    postgres_folder, account = place(folder / "postgres", key="chaos")
    servers = Servers(folder, postgres_folder, account)
    try:
        await servers.start()
        yield servers
    finally:
        servers.stop()
        for path in (folder, *stand_ins(folder / "postgres")):
            shutil.rmtree(path)
