"""Forward-only migrations: numbered SQL files, each applied once.

A package keeps them as `sql/migrations/NNNN_what.sql`; their statements name their
tables with the schema. What was applied stands in the table `SCHEMA.migrations` with a
checksum, so that a file changed after the fact is noticed instead of ignored.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from stepwire.db.pool import retryable
from stepwire.errors import Reason, StepwireError

_FILE = re.compile(r"^(?P<number>\d{4})_[a-z0-9_]+\.sql$")
_SCHEMA = re.compile(r"^[a-z][a-z0-9_]*$")


Connection = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(package: str) -> list[Migration]:
    """Read the migrations of `package`, in order.

    Raises:
        ValueError: a file's name is badly formed, or a number is missing or doubled.
    """
    found: list[Migration] = []
    for entry in resources.files(package).joinpath("sql/migrations").iterdir():
        match = _FILE.match(entry.name)
        if not match:
            raise ValueError(f"migration file name {entry.name!r} is not NNNN_what.sql")
        found.append(Migration(int(match["number"]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations of {package} are not numbered 0001, 0002, …")
    return found


@retryable()
async def migrate(pool: asyncpg.Pool, *, package: str, schema: str) -> list[str]:
    """Bring the tables of `schema` up to date; return the names of what was applied.

    Several processes may call it at once: an advisory lock lets one of them work.

    Raises:
        ValueError: an applied migration's file has changed since.
        StepwireError: DEPENDENCY_UNAVAILABLE, when the connection was lost again and again.
    """
    if not _SCHEMA.match(schema):
        raise ValueError(f"schema name {schema!r} is not an identifier")
    migrations = read_migrations(package)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"stepwire.migrate.{schema}"
        )
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {schema}.migrations ("
            " number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch(f"SELECT number, checksum FROM {schema}.migrations")  # noqa: S608 - schema is checked above
        applied = {row["number"]: row["checksum"] for row in rows}
        return [
            migration.name
            for migration in migrations
            if await _apply(connection, schema, migration, applied.get(migration.number))
        ]


@retryable()
async def check_migrated(pool: asyncpg.Pool, *, package: str, schema: str) -> None:
    """See that the tables of `schema` are there and up to date, for who may not change them.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when whoever calls `migrate` has yet to come.
    """
    try:
        rows = await pool.fetch(f"SELECT number FROM {schema}.migrations")  # noqa: S608 - schema is the caller's own
    except asyncpg.UndefinedTableError:
        rows = []
    missing = {each.number for each in read_migrations(package)} - {row["number"] for row in rows}
    if missing:
        raise StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the tables of {schema} are not up to date: {len(missing)} migrations are missing",
            metadata={"dependency": "postgres"},
        )


async def _apply(
    connection: Connection, schema: str, migration: Migration, applied: str | None
) -> bool:
    if applied == migration.checksum:
        return False
    if applied is not None:
        raise ValueError(
            f"migration {migration.name} of {schema} was changed after it was applied: these tables"
            " are another version's (`stepwire down --purge` removes a local stack's data)"
        )
    await connection.execute(migration.sql)
    await connection.execute(
        f"INSERT INTO {schema}.migrations (number, name, checksum) VALUES ($1, $2, $3)",  # noqa: S608 - schema is checked by the caller
        migration.number,
        migration.name,
        migration.checksum,
    )
    return True
