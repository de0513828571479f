"""SweepStore on Postgres."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg

from executor_svc.engine.ports import Effects, ExpiredStep
from executor_svc.engine.records import Attempt, StepRef
from executor_svc.engine.state_machine import Settlement
from executor_svc.store.attempts import claimed_attempt, context_of
from executor_svc.store.rows import effects_of, queries, ref_of
from executor_svc.store.settlements import settle_arguments
from stepwire.ids import uuid7


class PostgresSweepStore:
    """See `executor_svc.engine.ports`: SweepStore and ExpiryStore.

    Each call takes at most `batch` rows.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, republish_after: timedelta, batch: int = 1000
    ) -> None:
        self._pool = pool
        self._republish_after = republish_after
        self._batch = batch

    async def lose_orphans(self) -> Effects:
        return await self._sweep(queries.lose_orphans)

    async def wake_due(self) -> Effects:
        return await self._sweep(queries.wake_due)

    async def expire_tasks(self) -> Effects:
        return await self._sweep(queries.expire_tasks)

    async def _sweep(self, query: str) -> Effects:
        return effects_of(await self._pool.fetch(query, self._republish_after, self._batch))

    async def republish(self, patience: Mapping[str, timedelta]) -> Effects:
        rows = await self._pool.fetch(
            queries.republish,
            self._republish_after,
            list(patience),
            list(patience.values()),
            self._batch,
        )
        return Effects(ready=[ref_of(row) for row in rows])

    async def next_due(self) -> datetime | None:
        due: datetime | None = await self._pool.fetchval(queries.next_due)
        return due

    async def expired(self, without: Collection[bytes]) -> Sequence[ExpiredStep]:
        rows = await self._pool.fetch(queries.expired, list(without), self._batch)
        return [ExpiredStep(ref_of(row), row["graph_hash"]) for row in rows]

    async def expire(
        self, steps: Sequence[StepRef], decide: Callable[[Attempt], Settlement]
    ) -> tuple[int, Effects]:
        # In one transaction no other ever sees the session, which therefore needs no lease;
        # and with the tasks locked first, as everywhere.
        session_id = uuid7()
        task_ids = [ref.task_id for ref in steps]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(queries.lock_tasks, task_ids)
            rows = await connection.fetch(
                queries.claim_expired,
                session_id,
                task_ids,
                [ref.step_id for ref in steps],
                [ref.attempt for ref in steps],
            )
            # What the task's input is does not matter any more.
            contexts = [context_of(row, defaultdict(bytes)) for row in rows]
            settlements = [
                decide(claimed_attempt(row, context))
                for row, context in zip(rows, contexts, strict=True)
            ]
            arguments, _ = settle_arguments(settlements, inline_bytes=0)
            facts = await connection.fetch(
                queries.settle, session_id, self._republish_after, *arguments
            )
        return len(settlements), effects_of(facts)

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        rows = await self._pool.fetch(queries.read_graphs, [graph_hash])
        return rows[0]["spec"] if rows else None
