"""RetentionStore on Postgres."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from executor_svc.retention.ports import BusyError, Kept, TooLongError
from executor_svc.retention.spans import Partition
from executor_svc.tasks.task_ids import next_id
from stepwire.db import load_queries

queries = load_queries("executor_svc", "sql/retention.sql")

# While somebody waits for a lock on a table, everybody behind waits too.
LOCK_TIMEOUT = "200ms"
STATEMENT_TIMEOUT = "5s"
# Reading through a partition takes its time, and keeps nobody waiting.
SEARCH_SECONDS = 600.0
# Most tasks that move while everybody waits, and most that are deleted in one commit.
MOST_KEPT = 1000
PURGE_BATCH = 500
FORGET_BATCH = 5000
GRAPH_BATCH = 1000

BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class PostgresPartitions:
    """See `executor_svc.retention.ports.Partitions`."""

    def __init__(self, connection: PoolConnectionProxy) -> None:
        self._connection = connection

    async def existing(self) -> Sequence[Partition]:
        rows = await self._connection.fetch(queries.partitions)
        return [Partition(row["name"], row["lower"], row["upper"]) for row in rows]

    async def add(self, partition: Partition) -> bool:
        return await self._briefly(
            queries.add_partition, partition.name, partition.lower, partition.upper
        )

    async def kept(self, partition: Partition, *, ended: datetime) -> Kept | None:
        row = await self._connection.fetchrow(
            queries.kept,
            partition.lower,
            partition.upper,
            ended,
            MOST_KEPT,
            timeout=SEARCH_SECONDS,
        )
        assert row is not None
        return None if row["kept"] is None else Kept(row["kept"], row["marked"], ended)

    async def drop(self, partition: Partition, kept: Kept) -> None:
        if not await self._briefly(
            queries.drop_partition, partition.name, list(kept.tasks), kept.marked, kept.ended
        ):
            raise BusyError("a task of the partition was retried meanwhile")

    async def purge(self, lower: UUID, upper: UUID, *, ended: datetime) -> int:
        commits = 0
        while True:
            last = await self._connection.fetchval(queries.purge, lower, upper, ended, PURGE_BATCH)
            if last is None:
                return commits
            commits += 1
            lower = next_id(last)

    async def forget(self, lower: UUID, upper: UUID) -> None:
        while await self._connection.fetchval(queries.forget, lower, upper, FORGET_BATCH):
            pass

    async def drop_graphs(self, upper: UUID, *, unused: datetime) -> None:
        looked = GRAPH_BATCH
        while looked == GRAPH_BATCH:
            looked = await self._connection.fetchval(
                queries.drop_graphs, unused, upper, GRAPH_BATCH, timeout=SEARCH_SECONDS
            )

    async def _briefly(self, query: str, *arguments: object) -> bool:
        """Run what stops everybody else, or give way."""
        try:
            async with self._connection.transaction():
                await self._connection.execute(queries.be_brief, LOCK_TIMEOUT, STATEMENT_TIMEOUT)
                done: bool = await self._connection.fetchval(query, *arguments)
        except BUSY as error:
            raise BusyError(type(error).__name__) from error
        except asyncpg.QueryCanceledError as error:
            raise TooLongError(f"it took longer than {STATEMENT_TIMEOUT}") from error
        return done


class PostgresRetentionStore:
    """See `executor_svc.retention.ports.RetentionStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[PostgresPartitions | None]:
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(queries.try_alone):
                yield None
                return
            try:
                yield PostgresPartitions(connection)
            finally:
                # A connection that is lost has lost its lock too.
                if not connection.is_closed():
                    await connection.fetchval(queries.leave)
