"""A record with tasks and steps put into it directly, for tests of limits and fairness."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from executor_svc.engine.ports import Effects, Want
from executor_svc.engine.records import Attempt, Blob, Failure, Phase, StepRef, StepState
from executor_svc.engine.state_machine import Settlement
from executor_svc.store.limits import PostgresLimitStore
from executor_svc.store.release import PostgresReleaseStore
from executor_svc.store.steps import PostgresStepStore
from stepwire.db import migrate, open_pool
from stepwire.ids import uuid7

REPUBLISH = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
OUTPUT = Blob(b"1", "application/json")


class LimitRecord:
    """The stores of one database, as one worker session sees them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.limits = PostgresLimitStore(pool, republish_after=REPUBLISH, batch=20)
        self.steps = PostgresStepStore(pool, republish_after=REPUBLISH, inline_bytes=1024)
        self.releases = PostgresReleaseStore(pool, republish_after=REPUBLISH)

    async def session(self) -> UUID:
        session_id = uuid7()
        await self.pool.execute(
            "INSERT INTO executor.worker_sessions (session_id, worker, expires_at)"
            " VALUES ($1, 'test', now() + interval '1 hour')",
            session_id,
        )
        return session_id

    async def task(
        self,
        *step_ids: str,
        tenant: str = "t",
        priority: int = 5,
        traits: int = 0,
        held: bool = False,
        queue: str = "default",
    ) -> UUID:
        """A task with steps that are ready, or held."""
        task_id = uuid7()
        await self.pool.execute(
            "INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, open_sinks, traits,"
            " priority, input, input_type, traceparent)"
            " VALUES ($1, $2, 'g', $3, $4, $5, '1', 'application/json', '')",
            task_id,
            tenant,
            len(step_ids),
            traits,
            priority,
        )
        await self.pool.execute(
            "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue,"
            " priority, due_at, ready_at) SELECT $1, s, 0, $3, $4, $5, $6,"
            " CASE WHEN $3::executor.step_state = 'READY' THEN now() + interval '1 hour' END, now()"
            " FROM unnest($2::text[]) AS s",
            task_id,
            step_ids,
            "BLOCKED" if held else "READY",
            tenant,
            queue,
            priority,
        )
        return task_id

    async def keyed(self, key: str, *, most: int = 1, policy: int = 1, **fields: Any) -> UUID:
        """A task with one step that asks for a place under a concurrency key."""
        task_id = await self.task("a", traits=2, held=True, **fields)
        await self.pool.execute(
            "INSERT INTO executor.limit_waiters (tenant_id, key, priority, task_id, step_id,"
            " policy, max_running) VALUES ($1, $2, $3, $4, '', $5, $6)",
            fields.get("tenant", "t"),
            key,
            fields.get("priority", 5),
            task_id,
            policy,
            most,
        )
        return task_id

    async def claim(
        self, session_id: UUID, task_id: UUID, *step_ids: str, attempt: int = 1
    ) -> list[Attempt]:
        refs = [StepRef(task_id, step_id, attempt, "default") for step_id in step_ids]
        found = {each.step_id: each for each in await self.steps.claim(session_id, refs)}
        return [found[step_id] for step_id in step_ids if step_id in found]

    async def acquire(
        self,
        session_id: UUID,
        attempts: Sequence[Attempt],
        key: str = "k",
        *,
        most: int = 0,
        starts: int = 0,
        period: timedelta = SECOND,
    ) -> tuple[list[bool], Effects]:
        wants = [Want(attempt, key, most, starts, period) for attempt in attempts]
        granted, effects = await self.limits.acquire(session_id, wants)
        return list(granted), effects

    async def run(self, task_id: UUID, *step_ids: str, **limit: Any) -> list[bool]:
        """Claim steps for a session of their own and ask for places; say who got one."""
        session_id = await self.session()
        attempts = await self.claim(session_id, task_id, *step_ids)
        assert len(attempts) == len(step_ids)
        return (await self.acquire(session_id, attempts, **limit))[0]

    async def settle(
        self, session_id: UUID, attempts: Sequence[Attempt], state: StepState = StepState.SUCCEEDED
    ) -> tuple[list[bool], Effects]:
        failed = state is StepState.FAILED
        settled, effects = await self.steps.settle(
            session_id,
            [
                Settlement(
                    attempt=replace(attempt, phase=Phase.PLACED),
                    state=state,
                    events=[f'[11,"{attempt.step_id}",{attempt.attempt}]'],
                    output=None if failed else OUTPUT,
                    failure=Failure("STEP_FAILED", "no") if failed else None,
                    fatal=failed,
                    sink=not failed,
                )
                for attempt in attempts
            ],
        )
        return list(settled.accepted), effects

    async def admit(self, key: str = "k", *, tenant: str = "t") -> Effects:
        return await self.limits.admit([(tenant, key)])

    async def step(self, task_id: UUID, step_id: str) -> asyncpg.Record:
        row = await self.pool.fetchrow(
            "SELECT * FROM executor.steps WHERE task_id = $1 AND step_id = $2", task_id, step_id
        )
        assert row is not None
        return row

    async def state(self, task_id: UUID, step_id: str) -> tuple[str, int]:
        row = await self.step(task_id, step_id)
        return row["state"], row["phase"]

    async def task_state(self, task_id: UUID) -> str:
        state: str = await self.pool.fetchval(
            "SELECT state FROM executor.tasks WHERE task_id = $1", task_id
        )
        return state

    async def holders(self, key: str = "k") -> set[tuple[UUID, str]]:
        rows = await self.pool.fetch(
            "SELECT task_id, step_id FROM executor.limit_holders WHERE key = $1", key
        )
        return {(row["task_id"], row["step_id"]) for row in rows}

    async def waiters(self, key: str = "k") -> int:
        count: int = await self.pool.fetchval(
            "SELECT count(*) FROM executor.limit_waiters WHERE key = $1", key
        )
        return count

    async def lose(self, session_id: UUID) -> Effects:
        """Give back what a session runs, as if its worker had died."""
        await self.pool.execute(
            "DELETE FROM executor.worker_sessions WHERE session_id = $1", session_id
        )
        facts = await self.pool.fetch("SELECT * FROM executor.lose_orphans_v1($1, 100)", REPUBLISH)
        return Effects(
            ready=[
                StepRef(fact["task_id"], fact["step_id"], fact["attempt"], fact["queue"])
                for fact in facts
                if fact["kind"] == "READY"
            ]
        )


@pytest.fixture(name="record")
async def limit_record(database_url: str) -> AsyncIterator[LimitRecord]:
    """A record of the test's own."""
    async with open_pool(database_url, application_name="test", max_size=12) as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        yield LimitRecord(pool)
