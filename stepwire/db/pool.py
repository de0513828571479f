"""Connection pools to Postgres, and what to do when Postgres is away."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from stepwire.db.pool_metrics import PoolUse, watched_pool
from stepwire.errors import Reason, StepwireError

P = ParamSpec("P")
R = TypeVar("R")
Init = Callable[[asyncpg.Connection | PoolConnectionProxy], Coroutine[Any, Any, None]]

CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 60.0

# Errors after which the same unit of work may be tried on a fresh connection.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # Who was frozen in a transaction finds it ended.
    asyncpg.IdleInTransactionSessionTimeoutError,
    # Too many connections, a full disk, no memory: it may have them again.
    asyncpg.InsufficientResourcesError,
    # What asyncpg says when a backend was terminated while it spoke to it.
    asyncpg.InternalClientError,
    ConnectionError,
    OSError,
)
# Errors of one transaction against another: the work may be tried again at once.
CONFLICT_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)
# What may go wrong when a pool is opened, and when it is closed.
START_ERRORS: tuple[type[Exception], ...] = (
    *CONNECTION_ERRORS,
    asyncpg.PostgresError,
    TimeoutError,
)
CLOSE_ERRORS: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, TimeoutError)


@asynccontextmanager
async def open_pool(
    url: str,
    *,
    application_name: str,
    min_size: int = 1,
    max_size: int = 8,
    init: Init | None = None,
    settings: Mapping[str, str] | None = None,
    metrics_name: str = "",
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool to the database at `url`; close it at the end.

    Args:
        url: `postgresql://user@host:port/database`.
        application_name: shown in `pg_stat_activity`.
        min_size: connections opened at once, so that a wrong URL fails here.
        max_size: most connections.
        init: called with each new connection, to set codecs.
        settings: Postgres' settings of each connection.
        metrics_name: under which metrics show how busy it is; they do not if it is empty.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    pool = asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        init=init,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        reset=_leave_as_it_is,
        server_settings={"application_name": application_name, **(settings or {})},
    )
    try:
        await pool
    except START_ERRORS as error:
        raise postgres_unavailable(error, at=_server_of(url)) from error
    try:
        with watched_pool(metrics_name, partial(use_of, pool)) if metrics_name else nullcontext():
            yield pool
    finally:
        await _close(pool)


def use_of(pool: asyncpg.Pool) -> PoolUse:
    """Return how many connections of a pool are lent."""
    idle = pool.get_idle_size()
    return PoolUse(used=pool.get_size() - idle, idle=idle, most=pool.get_max_size())


def _server_of(url: str) -> str:
    """Return host and port of a URL, which may hold a password besides; "" if it has none."""
    return urlsplit(url).netloc.rpartition("@")[2]


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Give a connection back without asking the server to forget the session's state.

    asyncpg would send four statements each time, which costs as much as a small query of
    ours. There is nothing to forget: settings and locks of ours end with their
    transaction, and asyncpg itself ends one that is left open.
    """


async def _close(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except CLOSE_ERRORS:
        pool.terminate()


def postgres_unavailable(error: BaseException, *, at: str = "") -> StepwireError:
    """The error for a caller when Postgres does not answer.

    Args:
        error: what happened.
        at: host and port, for whoever starts a process; callers are not told.
    """
    return StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"Postgres does not answer{f' at {at}' if at else ''}: {type(error).__name__}",
        metadata={"dependency": "postgres"},
    )


def retryable(
    *, attempts: int = 3, pause_seconds: float = 0.1
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Decorate a unit of database work that may be run again as a whole.

    Conflicts between transactions and lost connections are tried again, with a growing
    pause; what remains, and a statement that took too long, is raised as
    DEPENDENCY_UNAVAILABLE. The work must be one
    transaction that is harmless to repeat, since a commit may have succeeded although
    its answer was lost.
    """

    def decorate(work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(work)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            for attempt in range(1, attempts + 1):
                try:
                    return await work(*args, **kwargs)
                except asyncpg.DataError:
                    # Of the kind InterfaceError, but a fault of the caller's.
                    raise
                except TimeoutError as error:
                    # It has waited long enough; a second wait would double it.
                    raise postgres_unavailable(error) from error
                except (*CONFLICT_ERRORS, *CONNECTION_ERRORS) as error:
                    if attempt == attempts:
                        raise postgres_unavailable(error) from error
                    await asyncio.sleep(pause_seconds * attempt)
            raise AssertionError("unreachable")

        return run

    return decorate
