"""The record of one database, as workers, owners and the sweep see it."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from executor_svc.engine.outcomes import Failed, Outcome, Succeeded
from executor_svc.engine.ports import Effects, Settled, WorkerProfile
from executor_svc.engine.records import Attempt, Blob, Failure, NewTask, Place, StepRef
from executor_svc.engine.state_machine import Settlement, settle, settle_undo
from executor_svc.graphs.cache import ACCEPTED
from executor_svc.graphs.compile import compile_graph
from executor_svc.graphs.graph import Graph
from executor_svc.store import (
    PostgresSessionStore,
    PostgresStepStore,
    PostgresSweepStore,
    PostgresTaskStore,
)
from executor_svc.tasks.creator import Submission, new_task
from executor_svc.tasks.ports import Signal
from executor_svc.tasks.retry import plan_retry
from stepwire.db import migrate, open_pool
from stepwire.ids import uuid7
from tests.integration.executor_svc.executor_mesh import graph

REPUBLISH = timedelta(seconds=60)
LEASE = timedelta(seconds=60)
OUTPUT = Succeeded(Blob(b"1", "application/json"))
FAILURE = Failed(Failure("STEP_FAILED", "no"), retryable=False)
RETRYABLE = Failed(Failure("STEP_FAILED", "no"))
PROFILE = WorkerProfile("test", ("default",), slots=8)
NULL = Blob(b"null", "application/json")


class Record:
    """The stores of one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.tasks = PostgresTaskStore(pool, republish_after=REPUBLISH, inline_bytes=1024)
        self.steps = PostgresStepStore(pool, republish_after=REPUBLISH, inline_bytes=1024)
        self.sweep = PostgresSweepStore(pool, republish_after=REPUBLISH)
        self.sessions = PostgresSessionStore(pool)
        self._graphs: dict[UUID, Graph] = {}

    async def session(self) -> UUID:
        session_id = uuid7()
        await self.sessions.open(session_id, PROFILE, lease=LEASE, busy=0, draining=False)
        return session_id

    async def task(self, *steps: Any, **fields: Any) -> tuple[Graph, NewTask]:
        compiled = compiled_graph(*steps)
        await self.tasks.add_graphs([compiled])
        task = new_task(Submission("default", compiled, NULL, **fields))
        assert await self.tasks.create([task])
        self._graphs[task.task_id] = compiled
        return compiled, task

    async def subtask(self, of: Attempt, **fields: Any) -> tuple[Graph, NewTask]:
        """The subtask `c` that an attempt makes."""
        parent = StepRef(of.task.task_id, of.step_id, of.attempt, of.queue)
        return await self.task(
            {"name": "c", "transform": {"expression": "1"}}, parent=parent, **fields
        )

    async def claim(
        self, session_id: UUID, task_id: UUID, *step_ids: str, attempt: int = 1
    ) -> list[Attempt]:
        """Claim steps; return those that were given, in the order asked for."""
        refs = [StepRef(task_id, step_id, attempt, "default") for step_id in step_ids]
        attempts = await self.steps.claim(session_id, refs)
        return sorted(attempts, key=lambda each: step_ids.index(each.step_id))

    async def settle(
        self,
        session_id: UUID,
        compiled: Graph,
        attempts: Sequence[Attempt],
        outcome: Outcome = OUTPUT,
        *,
        claims: int = 0,
    ) -> tuple[Settled, Effects]:
        settlements = [settlement(compiled, each, outcome, claims=claims) for each in attempts]
        return await self.steps.settle(session_id, settlements)

    async def run(
        self,
        session_id: UUID,
        compiled: Graph,
        task_id: UUID,
        *step_ids: str,
        outcome: Outcome = OUTPUT,
        attempt: int = 1,
    ) -> Effects:
        """Claim steps and settle them; all must be given and recorded."""
        attempts = await self.claim(session_id, task_id, *step_ids, attempt=attempt)
        assert len(attempts) == len(step_ids)
        settled, effects = await self.settle(session_id, compiled, attempts, outcome)
        assert all(settled.accepted)
        return effects

    async def signal(self, task_id: UUID, name: str, payload: bytes = b"1") -> Effects | None:
        return await self.tasks.signal(task_id, Signal(name, payload, str(uuid7())))

    async def retry(
        self, task_id: UUID, request_id: str = "", *, place: Place | None = None
    ) -> Effects | None:
        return await self.tasks.retry(
            task_id,
            request_id=request_id or str(uuid7()),
            place=place,
            plan=partial(plan_retry, self._graphs[task_id], {}),
        )

    async def wake(self) -> Effects:
        """Let all waits that have an end be over."""
        await self.pool.execute(
            "UPDATE executor.steps SET due_at = now() - interval '1 s'"
            " WHERE state = 'WAITING' AND due_at IS NOT NULL"
        )
        return await self.sweep.wake_due()

    async def states(self, task_id: UUID) -> dict[str, tuple[str, int]]:
        rows = await self.pool.fetch(
            "SELECT step_id, state, attempt FROM executor.steps WHERE task_id = $1", task_id
        )
        return {row["step_id"]: (row["state"], row["attempt"]) for row in rows}

    async def state(self, task_id: UUID, step_id: str) -> str:
        return (await self.states(task_id))[step_id][0]

    async def task_state(self, task_id: UUID) -> str:
        state: str = await self.pool.fetchval(
            "SELECT state FROM executor.tasks WHERE task_id = $1", task_id
        )
        return state

    async def notices(self, task_id: UUID) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT kind FROM executor.notices WHERE task_id = $1 ORDER BY notice_id", task_id
        )
        return [row["kind"] for row in rows]

    async def expire(self, session_id: UUID) -> Effects:
        """End a session, and have its steps given back."""
        await self.sessions.close(session_id)
        return await self.sweep.lose_orphans()


def settlement(
    compiled: Graph, attempt: Attempt, outcome: Outcome, *, claims: int = 0
) -> Settlement:
    return settle(
        compiled,
        attempt,
        outcome,
        now=datetime.now(UTC),
        rng=random.Random(1),
        claims=claims,
    )


def undo_settlement(attempt: Attempt, outcome: Outcome) -> Settlement:
    return settle_undo(attempt, outcome, rng=random.Random(1), claims=0)


def compiled_graph(*steps: Any) -> Graph:
    return compile_graph(graph(*steps), limits=ACCEPTED)


def ready(effects: Effects | None) -> set[tuple[str, int]]:
    """Which steps, in which attempt, a transition has made ready."""
    assert effects is not None
    return {(ref.step_id, ref.attempt) for ref in effects.ready}


@pytest.fixture(name="record")
async def transition_record(database_url: str) -> AsyncIterator[Record]:
    """A record of the test's own."""
    async with open_pool(database_url, application_name="test", max_size=10) as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        yield Record(pool)
