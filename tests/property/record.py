"""The real record, driven as workers, owners and the sweeper drive it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from executor_svc.engine.decisions import begin, gathered, unsatisfied
from executor_svc.engine.outcomes import Added, Expanded, Failed, Outcome, Skipped, Succeeded, Waits
from executor_svc.engine.ports import Effects, Settled
from executor_svc.engine.records import Attempt, Blob, Failure, Phase, StepAddress, StepRef
from executor_svc.engine.scope import states_of
from executor_svc.engine.state_machine import settle
from executor_svc.graphs.graph import Graph, Step
from executor_svc.store import PostgresStepStore, PostgresSweepStore, PostgresTaskStore
from executor_svc.tasks.creator import Submission, new_task
from executor_svc.tasks.ports import Signal
from executor_svc.tasks.retry import plan_retry
from executor_svc.work.runner import RunLimits
from stepwire.ids import uuid7
from tests.property.graphs import compiled
from tests.property.model_values import Ending, Event, Node, event_name

REPUBLISH = timedelta(hours=1)
LONG = timedelta(hours=1)
RUN_LIMITS = RunLimits(2**20, 10_000, 1000, 1.0)
NULL = Blob(b"null", "application/json")
FAILURE = Failure("STEP_FAILED", "no")


@dataclass(frozen=True)
class Decided:
    """How an attempt is to end: for the model, and for the record."""

    ending: Ending
    outcome: Outcome
    items: int = 0
    nodes: tuple[Node, ...] = ()


class Record:
    """The stores of one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.tasks = PostgresTaskStore(pool, republish_after=REPUBLISH, inline_bytes=1024)
        self.steps = PostgresStepStore(pool, republish_after=REPUBLISH, inline_bytes=1024)
        self.sweep = PostgresSweepStore(pool, republish_after=REPUBLISH)
        self._graphs: dict[bytes, Graph] = {}
        self._graph_of: dict[UUID, Graph] = {}
        self._rng = random.Random(1)

    async def create(self, nodes: Sequence[Node]) -> tuple[UUID, int]:
        """Create a task that has a deadline; return its number of steps that are ready."""
        graph = await self._stored(nodes)
        task = new_task(Submission("default", graph, NULL, timeout=LONG))
        assert await self.tasks.create([task])
        self._graph_of[task.task_id] = graph
        return task.task_id, sum(not step.open for step in task.steps)

    async def _stored(self, nodes: Sequence[Node]) -> Graph:
        graph = compiled(nodes)
        self._graphs[graph.graph_hash] = graph
        await self.steps.add_graph(graph)
        return graph

    async def session(self) -> UUID:
        session_id = uuid7()
        await self._pool.execute(
            "INSERT INTO executor.worker_sessions (session_id, worker, expires_at)"
            " VALUES ($1, 'test', now() + interval '1 hour')",
            session_id,
        )
        return session_id

    async def claim(
        self, session: UUID, wanted: Sequence[tuple[UUID, str, int]]
    ) -> Sequence[Attempt]:
        return await self.steps.claim(session, [StepRef(*each, "default") for each in wanted])

    async def decide(
        self,
        attempt: Attempt,
        ending: Ending,
        *,
        waits_for: str = "",
        items: int = 0,
        nodes: tuple[Node, ...] = (),
    ) -> Decided:
        """Decide as a worker would, and as `ending` asks where it is free to."""
        graph = self._graphs[attempt.graph_hash]
        step = graph.steps[attempt.ordinal]
        if ending is Ending.DECLINED:
            return Decided(ending, Waits("worker", wait=LONG))
        outcome: Outcome | None = None
        if attempt.phase in (Phase.UNSATISFIED, Phase.CAME):
            outcome = begin(step, attempt, {}, limits=RUN_LIMITS)
        if outcome is None and attempt.phase is Phase.UNSATISFIED:
            outcome = await self._unsatisfied(step, attempt)
        if outcome is None and attempt.items is not None and attempt.added_graph is None:
            address = StepAddress(attempt.task.task_id, attempt.step_id)
            outcome = gathered(step, await self.steps.item_endings(address))
        if outcome is not None:
            return Decided(_ending_of(outcome), outcome)
        if ending is Ending.STEPS:
            return Decided(ending, Added(await self._stored(nodes), b"{}"), nodes=nodes)
        return Decided(ending, _outcome_of(ending, attempt, waits_for, items), items=items)

    async def _unsatisfied(self, step: Step, attempt: Attempt) -> Outcome:
        scope = None if attempt.scope is None else attempt.scope.step_id
        endings = await self.steps.endings(attempt.task.task_id, scope=scope)
        return unsatisfied(step, states_of(step, attempt, endings))

    async def settle(
        self,
        session: UUID,
        ends: Sequence[tuple[Attempt, Decided, bool]],
        *,
        claims: int,
    ) -> tuple[Settled, Effects]:
        return await self.steps.settle(
            session,
            [
                settle(
                    self._graphs[attempt.graph_hash],
                    attempt,
                    decided.outcome,
                    now=datetime.now(UTC),
                    rng=self._rng,
                    claims=claims,
                    announced=announced,
                )
                for attempt, decided, announced in ends
            ],
        )

    async def lose(self, session: UUID) -> Effects:
        """Let a session's lease run out."""
        await self._pool.execute(
            "UPDATE executor.worker_sessions SET expires_at = now() - interval '1 s'"
            " WHERE session_id = $1",
            session,
        )
        return await self.sweep.lose_orphans()

    async def time_passes(self, task_id: UUID) -> Effects:
        await self._pool.execute(
            "UPDATE executor.steps SET due_at = now() - interval '1 s'"
            " WHERE task_id = $1 AND state = 'WAITING' AND due_at IS NOT NULL",
            task_id,
        )
        return await self.sweep.wake_due()

    async def deadline_passes(self, task_id: UUID) -> Effects:
        await self._pool.execute(
            "UPDATE executor.deadlines SET deadline = now() - interval '1 s' WHERE task_id = $1",
            task_id,
        )
        return await self.sweep.expire_tasks()

    async def signal(self, task_id: UUID, payload: bytes) -> Effects | None:
        return await self.tasks.signal(task_id, Signal("go", payload, str(uuid7())))

    async def retry(self, task_id: UUID) -> Effects | None:
        plan = partial(plan_retry, self._graph_of[task_id], self._graphs)
        return await self.tasks.retry(task_id, request_id=str(uuid7()), place=None, plan=plan)

    async def task(self, task_id: UUID) -> asyncpg.Record:
        return await self._pool.fetchrow(
            "SELECT state, last_cursor, started_at IS NOT NULL AS started,"
            " ended_at IS NOT NULL AS ended FROM executor.tasks WHERE task_id = $1",
            task_id,
        )

    async def rows(self, task_id: UUID) -> dict[str, tuple[Any, ...]]:
        """What is recorded of each step; `fired` is whether nothing keeps it from starting."""
        rows = await self._pool.fetch(
            "SELECT step_id, state, attempt, session_id, coalesce(waits_for, '') AS waits_for,"
            " failures, output, state <> 'BLOCKED' OR needs + open = 0 AS fired"
            " FROM executor.steps WHERE task_id = $1",
            task_id,
        )
        return {row["step_id"]: tuple(row.values())[1:] for row in rows}

    async def events(self, task_id: UUID) -> list[Event]:
        """A task's events in order; asserts that their cursors have no gap."""
        events: list[Event] = [("TASK_CREATED", "", 0)]
        for row in await self._pool.fetch(
            "SELECT last_cursor, events FROM executor.task_events WHERE task_id = $1"
            " ORDER BY last_cursor",
            task_id,
        ):
            for number, step_id, attempt, *_ in orjson.loads(row["events"]):
                events.append((event_name(number), step_id, attempt))
            assert row["last_cursor"] == len(events)
        return events


def _outcome_of(ending: Ending, attempt: Attempt, waits_for: str, items: int) -> Outcome:
    match ending:
        case Ending.FAILURE:
            return Failed(FAILURE)
        case Ending.PERMANENT_FAILURE:
            return Failed(FAILURE, retryable=False)
        case Ending.SKIP:
            return Skipped()
        case Ending.WAIT:
            return Waits(waits_for, wait=LONG)
        case Ending.ITEMS:
            return Expanded([b"%d" % number for number in range(items)])
    return Succeeded(_output(attempt))


def _output(attempt: Attempt) -> Blob | None:
    """An output that says which attempt gave it."""
    if attempt.items is not None and attempt.added_graph is None:
        return None
    return Blob(b'"%s %d"' % (attempt.step_id.encode(), attempt.attempt), "application/json")


def _ending_of(outcome: Outcome) -> Ending:
    match outcome:
        case Skipped():
            return Ending.SKIP
        case Failed(retryable=False):
            return Ending.PERMANENT_FAILURE
        case Succeeded():
            return Ending.SUCCESS
    raise AssertionError(outcome)
