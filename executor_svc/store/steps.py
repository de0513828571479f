"""StepStore on Postgres."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import count
from uuid import UUID

import asyncpg

from executor_svc.engine.ports import Effects, Settled
from executor_svc.engine.records import (
    Attempt,
    Blob,
    Done,
    StepAddress,
    StepRef,
    StepState,
    TaskContext,
)
from executor_svc.engine.state_machine import Settlement
from executor_svc.graphs.graph import Graph, item_range, scope_in
from executor_svc.store.attempts import claimed_attempt, context_of, started_attempt
from executor_svc.store.outputs import read_outputs, read_task_inputs
from executor_svc.store.rows import effects_of, queries
from executor_svc.store.settlements import settle_arguments
from stepwire.db import retryable
from stepwire.failpoints import failpoint
from stepwire.payload import NULL


class PostgresStepStore:
    """See `executor_svc.engine.ports.StepStore`."""

    def __init__(
        self, pool: asyncpg.Pool, *, republish_after: timedelta, inline_bytes: int
    ) -> None:
        """Take a pool; outputs larger than `inline_bytes` are kept apart."""
        self._pool = pool
        self._republish_after = republish_after
        self._inline_bytes = inline_bytes

    @retryable()
    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        rows = await self._pool.fetch(queries.read_graphs, [graph_hash])
        return rows[0]["spec"] if rows else None

    @retryable()
    async def queues(self) -> Collection[str]:
        return [row["queue"] for row in await self._pool.fetch(queries.known_queues)]

    @retryable()
    async def add_graph(self, graph: Graph) -> None:
        await self._pool.execute(queries.add_graphs, [graph.graph_hash], [graph.spec])

    @retryable()
    async def outputs(self, wanted: Sequence[StepAddress]) -> Sequence[Blob | None]:
        return await read_outputs(self._pool, wanted)

    @retryable()
    async def endings(self, task_id: UUID, *, scope: str | None) -> Mapping[str, StepState]:
        rows = await self._pool.fetch(queries.endings, task_id, scope)
        return {row["step_id"]: StepState(row["state"]) for row in rows}

    @retryable()
    async def item_endings(self, step: StepAddress) -> Sequence[StepState]:
        rows = await self._pool.fetch(
            queries.item_endings, step.task_id, *item_range(step.step_id), scope_in(step.step_id)
        )
        return [StepState(row["state"]) for row in rows]

    @retryable()
    async def collected_bytes(self, step: StepAddress) -> int:
        size: int = await self._pool.fetchval(
            queries.collected_bytes,
            step.task_id,
            *item_range(step.step_id),
            scope_in(step.step_id),
        )
        return size

    @retryable()
    async def undoable(self, task_id: UUID) -> Sequence[Done] | None:
        rows = await self._pool.fetch(queries.undoable, task_id)
        if any(row["state"] == StepState.RUNNING for row in rows):
            return None
        return [
            Done(row["step_id"], row["ordinal"], row["item"], row["scope"], row["graph_hash"])
            for row in rows
        ]

    @retryable()
    async def added_input(self, step: StepAddress) -> bytes:
        found: bytes | None = await self._pool.fetchval(
            queries.added_input, step.task_id, step.step_id
        )
        return found or NULL

    # Claims and settlements may be repeated after a commit whose answer was lost: what
    # was claimed or settled is then passed over, and the steps that the first commit gave
    # to the session, unknown to its worker, are found by `give_back_unknown`.

    @retryable()
    async def claim(self, session_id: UUID, refs: Sequence[StepRef]) -> Sequence[Attempt]:
        rows = await self._pool.fetch(
            queries.claim,
            session_id,
            [ref.task_id for ref in refs],
            [ref.step_id for ref in refs],
            [ref.attempt for ref in refs],
        )
        await failpoint("claim.committed")
        apart = [row["task_id"] for row in rows if row["input"] is None]
        inputs = await read_task_inputs(self._pool, apart) if apart else {}
        contexts: dict[UUID, TaskContext] = {}
        for row in rows:
            if row["task_id"] not in contexts:
                contexts[row["task_id"]] = context_of(row, inputs)
        return [claimed_attempt(row, contexts[row["task_id"]]) for row in rows]

    async def start(
        self, session_id: UUID, attempts: Sequence[Attempt], *, again: bool = False
    ) -> Effects:
        return await self._start(session_id, attempts, count(int(again)))

    @retryable()
    async def _start(
        self, session_id: UUID, attempts: Sequence[Attempt], tries: Iterator[int]
    ) -> Effects:
        again = next(tries) > 0
        facts = await self._pool.fetch(queries.start, session_id, *_columns(attempts), again)
        await failpoint("start.committed")
        return effects_of(facts)

    @retryable()
    async def still_runs(self, session_id: UUID, attempts: Sequence[Attempt]) -> Sequence[bool]:
        rows = await self._pool.fetch(queries.still_runs, session_id, *_columns(attempts))
        places = {row["place"] for row in rows}
        return [place in places for place in range(1, len(attempts) + 1)]

    @retryable()
    async def settle(
        self, session_id: UUID, settlements: Sequence[Settlement], *, publish: bool = True
    ) -> tuple[Settled, Effects]:
        arguments, apart = settle_arguments(settlements, inline_bytes=self._inline_bytes)
        async with self._pool.acquire() as connection:
            if apart:
                # Before the settlement, which says that they are there; what is left behind
                # by a settlement that is refused is overwritten or dropped with the task.
                await connection.execute(queries.add_payloads, *apart)
            republish_after = self._republish_after if publish else None
            facts = await connection.fetch(queries.settle, session_id, republish_after, *arguments)
        await failpoint("settle.committed")
        accepted: set[int] = set()
        started: list[Attempt] = []
        contexts = {each.attempt.task.task_id: each.attempt.task for each in settlements}
        # Inputs of graphs that are added by this very settlement.
        inboxes = {
            (each.attempt.task.task_id, each.attempt.step_id): each.inbox
            for each in settlements
            if each.added is not None
        }
        for fact in facts:
            if fact["kind"] == "STARTED":
                inbox = inboxes.get((fact["task_id"], fact["started"]["scope"]))
                started.append(started_attempt(fact, contexts[fact["task_id"]], inbox))
            elif fact["kind"] == "ACCEPTED":
                accepted.update(fact["accepted"] or ())
        places = range(1, len(settlements) + 1)
        return Settled([place in accepted for place in places], started), effects_of(facts)

    @retryable()
    async def heartbeat(self, session_id: UUID, beats: Sequence[tuple[StepRef, bytes]]) -> None:
        await self._pool.execute(
            queries.heartbeat,
            session_id,
            [ref.task_id for ref, _ in beats],
            [ref.step_id for ref, _ in beats],
            [ref.attempt for ref, _ in beats],
            [detail for _, detail in beats],
        )

    @retryable()
    async def give_back_unknown(
        self,
        session_id: UUID,
        known: Callable[[], Collection[StepAddress]],
        *,
        older_than: timedelta,
    ) -> Effects:
        rows = await self._pool.fetch(queries.running_of_session, session_id, older_than)
        unknown = {StepAddress(row["task_id"], row["step_id"]) for row in rows} - set(known())
        if not unknown:
            return Effects()
        facts = await self._pool.fetch(
            queries.lose_steps,
            self._republish_after,
            [session_id] * len(unknown),
            [address.task_id for address in unknown],
            [address.step_id for address in unknown],
        )
        return effects_of(facts)


def _columns(attempts: Sequence[Attempt]) -> Sequence[object]:
    """Return the columns that name attempts: tasks, step ids, attempts."""
    return (
        [attempt.task.task_id for attempt in attempts],
        [attempt.step_id for attempt in attempts],
        [attempt.attempt for attempt in attempts],
    )
