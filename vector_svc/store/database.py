"""Connections of a pool, each lent in the role of a tenant.

What a tenant's role may touch is enforced by Postgres: a statement that names another
tenant's points is refused, whatever led to it. A connection keeps its role when it comes
back, so that the next call of the same tenant finds it set. Each way in which Postgres
can fail has one meaning here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from opentelemetry.trace import SpanKind

from stepwire.db.pool import CONNECTION_ERRORS, postgres_unavailable
from stepwire.errors import Reason, StepwireError
from stepwire.telemetry import tracer
from vector_svc.engine.ports import CollectionGoneError, TenantUnknownError
from vector_svc.engine.records import role_of

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_SYSTEM_POSTGRESQL: Final = "postgresql"

# In place of a tenant: the role that owns all tables, for what no tenant may do.
OWNER: Final = None

_OWNER_ROLE: Final = "none"
_SET_ROLE: Final = "SELECT set_config('role', $1, false)"

LIMIT: Final = "postgres_max_connections"
RETRY_AFTER: Final = timedelta(milliseconds=500)

LOANS_PER_RELEASE: Final = 1_000

# InternalClientError is what asyncpg says of a connection that Postgres is just closing.
LOST: Final[tuple[type[Exception], ...]] = (*CONNECTION_ERRORS, asyncpg.InternalClientError)

# Out of memory, disk or connections; failures of the machine below.
_TROUBLE = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)


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
        self._acquire_seconds = acquire_seconds
        self.statement_seconds = statement_seconds
        self._places = asyncio.Semaphore(pool.get_max_size())
        self._ready: list[tuple[PoolConnectionProxy, str]] = []
        self._loans = 0

    @asynccontextmanager
    async def connection(
        self, operation: str, tenant_id: str | None
    ) -> AsyncIterator[PoolConnectionProxy]:
        """Lend a connection in a tenant's role, within a span named after the operation.

        Args:
            operation: What it is used for.
            tenant_id: Whose data the connection may touch; OWNER for everything.

        Lost connections and conflicts between transactions come out as asyncpg's errors,
        for `stepwire.db.retryable`.

        Raises:
            StepwireError: OVERLOADED if no connection becomes free, or
                DEPENDENCY_UNAVAILABLE if Postgres is in trouble.
            CollectionGoneError: the work named a table that is not there.
            TenantUnknownError: the tenant never had a collection.
        """
        with tracer().start_as_current_span(
            f"postgres {operation}",
            kind=SpanKind.CLIENT,
            attributes={DB_SYSTEM: DB_SYSTEM_POSTGRESQL, DB_OPERATION: operation},
        ):
            await self._take_place()
            try:
                role = _OWNER_ROLE if tenant_id is OWNER else role_of(tenant_id)
                async with self._lent(role) as connection:
                    yield connection
            except asyncpg.UndefinedTableError as error:
                raise CollectionGoneError from error
            except _TROUBLE as error:
                raise postgres_unavailable(error) from error
            finally:
                self._places.release()

    async def close(self) -> None:
        """Give all connections that are kept ready back to the pool."""
        ready, self._ready = self._ready, []
        for connection, _ in ready:
            await self._give_back(connection)

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once, so no clock is needed
            return
        try:
            async with asyncio.timeout(self._acquire_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise StepwireError(
                Reason.OVERLOADED,
                f"no connection to Postgres became free in {self._acquire_seconds:g} s",
                metadata={"limit": LIMIT},
                retry_after=RETRY_AFTER,
            ) from error

    @asynccontextmanager
    async def _lent(self, role: str) -> AsyncIterator[PoolConnectionProxy]:
        connection, had = await self._take_connection(role)
        try:
            if had != role:
                await _set_role(connection, role)
            yield connection
        except LOST as error:
            # The others are likely lost as well; on their way back the pool finds out.
            await self._give_back(connection)
            await self.close()
            raise ConnectionResetError("the connection to Postgres was lost") from error
        except BaseException:
            await self._give_back(connection)
            raise
        self._loans += 1
        if self._loans % LOANS_PER_RELEASE:
            self._ready.append((connection, role))
        else:
            # Now and then by way of the pool, which replaces connections that grow old.
            await self._give_back(connection)

    async def _take_connection(self, role: str) -> tuple[PoolConnectionProxy, str]:
        """Return a connection and the role that it has, "" for unknown."""
        while self._ready:
            last = len(self._ready) - 1
            fits = (place for place in range(last, -1, -1) if self._ready[place][1] == role)
            connection, had = self._ready.pop(next(fits, last))
            # One that was closed under us may have gone back to the pool by itself, and
            # then refuses even this question.
            with suppress(asyncpg.InterfaceError):
                if not connection.is_closed():
                    return connection, had
            await self._give_back(connection)
        try:
            return await self._pool.acquire(timeout=self._acquire_seconds), ""
        except TimeoutError as error:
            # There was a place for it, so it is Postgres that was waited for.
            raise postgres_unavailable(error) from error

    async def _give_back(self, connection: PoolConnectionProxy) -> None:
        # A connection that cannot be reset is closed by the pool, and is no loss.
        with suppress(asyncpg.PostgresError, *LOST):
            await self._pool.release(connection)


async def _set_role(connection: PoolConnectionProxy, role: str) -> None:
    try:
        await connection.fetchval(_SET_ROLE, role)
    except asyncpg.InvalidParameterValueError as error:
        raise TenantUnknownError from error
