"""Connections of a pool, each lent in the role of a tenant.

What a tenant's role may touch is enforced by Postgres: a statement that names another
tenant's points is refused, whatever led to it. A connection keeps its role when it comes
back, so that the next call of the same tenant finds it set. Each way in which Postgres
can fail has one meaning here.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from types import TracebackType
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from opentelemetry.trace import SpanKind

from stepwire.db import open_pool
from stepwire.db.pool import CONNECTION_ERRORS, postgres_unavailable
from stepwire.db.pool_metrics import PoolUse
from stepwire.errors import Reason, StepwireError
from stepwire.telemetry import tracer
from vector_svc.engine.ports import CollectionGoneError, TenantUnknownError
from vector_svc.engine.records import role_of
from vector_svc.store.codecs import set_codecs
from vector_svc.store.places import Places

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_SYSTEM_POSTGRESQL: Final = "postgresql"

# In place of a tenant: the role that owns all tables, for what no tenant may do.
OWNER: Final = None

_OWNER_ROLE: Final = "none"
_SET_ROLE: Final = "SELECT set_config('role', $1, false)"

# Postgres' settings of each connection. A statement's plan follows from its text: it is made
# once per connection without the values, since those of `LIMIT` would have each search planned
# anew (80 µs); and an index that fits is used whatever statistics say, so that the way that a
# search reports is the way that it went. Where no index fits, tables are scanned all the same,
# at a cost that must not look like one that is worth compiling.
SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
}


LOANS_PER_RELEASE: Final = 1_000

# InternalClientError is what asyncpg says of a connection that Postgres is just closing.
LOST: Final[tuple[type[Exception], ...]] = (*CONNECTION_ERRORS, asyncpg.InternalClientError)

# What a collection was known by is no longer so: its table, its row, or columns of fields,
# which may have come back with another type.
_GONE = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.ForeignKeyViolationError,
)

# Out of connections; failures of the machine below.
_TROUBLE = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)

# What Postgres has run out of. The connection is whole, and trying again would not help.
_EXHAUSTED: Final[Mapping[type, str]] = {
    asyncpg.DiskFullError: "disk",
    # Of all limits that are configured, temp_file_limit alone is met here.
    asyncpg.ConfigurationLimitExceededError: "disk",
    asyncpg.OutOfMemoryError: "memory",
}


def open_connections(
    url: str, *, application_name: str, min_size: int = 1, max_size: int = 8
) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """Open a pool for a `Database`; close it at the end.

    Args:
        url: `postgresql://user@host:port/database`, which has pgvector.
        application_name: Shown in `pg_stat_activity`.
        min_size: Connections opened at once.
        max_size: Most connections.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    return open_pool(
        url,
        application_name=application_name,
        min_size=min_size,
        max_size=max_size,
        init=set_codecs,
        settings=SETTINGS,
    )


class Database:
    """A pool whose connections are lent for one unit of work.

    A connection that comes back whole is kept ready for the next unit of work instead of
    being released to the pool, which would send it a statement to reset its session: no
    work here changes the session, and that statement costs a third of a fast search.

    Args:
        pool: The pool; `close` is to be called before it is closed.
        acquire_seconds: Longest wait for a free connection.
        statement_seconds: Longest time of a statement; to be given with each.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, acquire_seconds: float, statement_seconds: float
    ) -> None:
        self._pool = pool
        self.statement_seconds = statement_seconds
        self._places = Places(
            pool.get_max_size(),
            limit="postgres_max_connections",
            what="connection to Postgres",
            seconds=acquire_seconds,
        )
        self._ready: list[tuple[PoolConnectionProxy, str]] = []
        self._loans = 0

    @property
    def use(self) -> PoolUse:
        """How many connections are lent; those that are kept ready are not."""
        most = self._pool.get_max_size()
        used = most - self._places.free
        return PoolUse(used=used, idle=max(0, self._pool.get_size() - used), most=most)

    def connection(self, operation: str, tenant_id: str | None) -> "Loan":
        """Lend a connection in a tenant's role, within a span named after the operation.

        Args:
            operation: What it is used for.
            tenant_id: Whose data the connection may touch; OWNER for everything.

        Lost connections and conflicts between transactions come out as asyncpg's errors,
        for `stepwire.db.retryable`.

        Raises:
            StepwireError: OVERLOADED if no connection becomes free,
                DEPENDENCY_UNAVAILABLE if Postgres is in trouble, or STORAGE_EXHAUSTED if it
                has no disk or memory left.
            CollectionGoneError: the work named a table or column that is not there.
            TenantUnknownError: the tenant never had a collection.
        """
        return Loan(self, operation, _OWNER_ROLE if tenant_id is OWNER else role_of(tenant_id))

    async def take(self, role: str) -> PoolConnectionProxy:
        """Return a connection in a role, for one who calls `keep` or `lose` in the end.

        Raises:
            StepwireError: OVERLOADED or DEPENDENCY_UNAVAILABLE.
            TenantUnknownError: there is no such role.
        """
        await self._places.take()
        try:
            connection, had = await self._take_connection(role)
        except BaseException:
            self._places.release()
            raise
        if had == role:
            return connection
        try:
            await connection.fetchval(_SET_ROLE, role)
        except BaseException as error:
            await self.lose(connection, error)
            if isinstance(error, asyncpg.InvalidParameterValueError):
                raise TenantUnknownError from error
            raise
        return connection

    async def keep(self, connection: PoolConnectionProxy, role: str) -> None:
        """Take a connection back that is whole, and in this role."""
        self._loans += 1
        try:
            if self._loans % LOANS_PER_RELEASE:
                self._ready.append((connection, role))
            else:
                # Now and then by way of the pool, which replaces connections that grow old.
                await self._give_back(connection)
        finally:
            self._places.release()

    async def lose(self, connection: PoolConnectionProxy, error: BaseException) -> None:
        """Take a connection back whose work failed."""
        try:
            await self._give_back(connection)
            if isinstance(error, LOST) and type(error) not in _EXHAUSTED:
                # The others are likely lost as well; on their way back the pool finds out.
                await self.close()
        finally:
            self._places.release()

    async def close(self) -> None:
        """Give all connections that are kept ready back to the pool."""
        ready, self._ready = self._ready, []
        for connection, _ in ready:
            await self._give_back(connection)

    async def _take_connection(self, role: str) -> tuple[PoolConnectionProxy, str]:
        """Return a connection and the role that it has, "" for unknown."""
        while self._ready:
            connection, had = self._ready.pop(self._place_of(role))
            try:
                if not connection.is_closed():
                    return connection, had
            except asyncpg.InterfaceError:
                # One that was closed under us may have gone back to the pool by itself, and
                # then refuses even this question.
                pass
            await self._give_back(connection)
        try:
            return await self._pool.acquire(timeout=self._places.seconds), ""
        except TimeoutError as error:
            # There was a place for it, so it is Postgres that was waited for.
            raise postgres_unavailable(error) from error

    def _place_of(self, role: str) -> int:
        """Return where the last connection that is ready in a role is, or else the last."""
        last = len(self._ready) - 1
        for place in range(last, -1, -1):
            if self._ready[place][1] == role:
                return place
        return last

    async def _give_back(self, connection: PoolConnectionProxy) -> None:
        # A connection that cannot be reset is closed by the pool, and is no loss.
        with suppress(asyncpg.PostgresError, *LOST):
            await self._pool.release(connection)


class Loan:
    """A connection for the length of an `async with` block.

    Written out, since two context managers made of generators cost each search 10 µs more.
    """

    __slots__ = ("_connection", "_database", "_role", "_span")

    def __init__(self, database: Database, operation: str, role: str) -> None:
        self._database = database
        self._role = role
        name, attributes = _said_of(operation)
        self._span = tracer().start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes
        )

    async def __aenter__(self) -> PoolConnectionProxy:
        self._span.__enter__()
        try:
            self._connection = await self._database.take(self._role)
        except BaseException as error:
            self._end(error)
            raise
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self._database.keep(self._connection, self._role)
            self._span.__exit__(None, None, None)
            return
        await self._database.lose(self._connection, error)
        self._end(error)

    def _end(self, error: BaseException) -> None:
        """End the span.

        Raises:
            What an error of asyncpg's means here, if it means something.
        """
        meaning = _meaning(error)
        shown = meaning or error
        self._span.__exit__(type(shown), shown, None)
        if meaning is not None:
            raise meaning from error


@cache
def _said_of(operation: str) -> tuple[str, Mapping[str, str]]:
    """Name and attributes of the span around an operation, of which there are few."""
    return f"postgres {operation}", {DB_SYSTEM: DB_SYSTEM_POSTGRESQL, DB_OPERATION: operation}


def _meaning(error: BaseException) -> Exception | None:
    resource = _EXHAUSTED.get(type(error))
    if resource is not None:
        return StepwireError(
            Reason.STORAGE_EXHAUSTED,
            f"the database has no {resource} left for this",
            metadata={"dependency": "postgres", "resource": resource},
        )
    if isinstance(error, LOST):
        return ConnectionResetError("the connection to Postgres was lost")
    if isinstance(error, _GONE):
        return CollectionGoneError()
    return postgres_unavailable(error) if isinstance(error, _TROUBLE) else None
