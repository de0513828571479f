"""StepStore on Postgres."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from executor_svc.ports import Effects, Settled
from executor_svc.records import Attempt, Blob, EventBatch, StepRef, TaskContext
from executor_svc.state_machine import Settlement
from executor_svc.store.outputs import read_outputs
from executor_svc.store.rows import Row, batch_of, effects_of, json_text, queries
from stepwire.db import retryable


class PostgresStepStore:
    """See `executor_svc.ports.StepStore`."""

    def __init__(self, pool: asyncpg.Pool, *, republish_after: timedelta, max_losses: int) -> None:
        self._pool = pool
        self._republish_after = republish_after
        self._max_losses = max_losses

    @retryable()
    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        rows = await self._pool.fetch(queries.read_graphs, [graph_hash])
        return rows[0]["spec"] if rows else None

    @retryable()
    async def outputs(self, wanted: Sequence[tuple[UUID, str]]) -> Sequence[Blob | None]:
        return await read_outputs(self._pool, wanted)

    # Claims and settlements may be repeated after a commit whose answer was lost: what
    # was claimed or settled is then passed over, and the steps that the first commit gave
    # to the session, unknown to its worker, are found by `give_back_unknown`.

    @retryable()
    async def claim(
        self, session_id: UUID, refs: Sequence[StepRef]
    ) -> tuple[Sequence[Attempt | None], Effects]:
        rows = await self._pool.fetch(
            queries.claim,
            session_id,
            [ref.task_id for ref in refs],
            [ref.step_id for ref in refs],
            [ref.attempt for ref in refs],
        )
        contexts: dict[UUID, TaskContext] = {}
        events: dict[UUID, EventBatch] = {}
        attempts: dict[tuple[UUID, str], Attempt] = {}
        for row in rows:
            task_id = row["task_id"]
            if task_id not in contexts:
                contexts[task_id] = _context(row)
                if row["events"] is not None:
                    events[task_id] = batch_of(row)
            attempts[task_id, row["step_id"]] = Attempt(
                task=contexts[task_id],
                step_id=row["step_id"],
                ordinal=row["ordinal"],
                attempt=row["attempt"],
                item=row["item"],
                items=row["items"],
                item_input=row["item_input"],
                failures=row["failures"],
            )
        # A step that stands twice in the batch is claimed once.
        found = [attempts.pop((ref.task_id, ref.step_id), None) for ref in refs]
        return found, Effects(events=list(events.values()))

    @retryable()
    async def settle(
        self, session_id: UUID, settlements: Sequence[Settlement]
    ) -> tuple[Sequence[Settled], Effects]:
        facts = await self._pool.fetch(
            queries.settle, session_id, self._republish_after, *_settle_arguments(settlements)
        )
        accepted = {fact["ordinality"] for fact in facts if fact["kind"] == "ACCEPTED"}
        started = {
            (fact["task_id"], fact["step_id"]): fact for fact in facts if fact["kind"] == "STARTED"
        }
        settled = [
            Settled(
                accepted=place in accepted,
                continued=_continued(settlement, started) if place in accepted else None,
            )
            for place, settlement in enumerate(settlements, start=1)
        ]
        return settled, effects_of(facts)

    @retryable()
    async def give_back_unknown(
        self, session_id: UUID, known: Collection[tuple[UUID, str]], *, older_than: timedelta
    ) -> Effects:
        rows = await self._pool.fetch(queries.running_of_session, session_id, older_than)
        unknown = {(row["task_id"], row["step_id"]) for row in rows} - set(known)
        if not unknown:
            return Effects()
        facts = await self._pool.fetch(
            queries.lose_steps,
            [session_id],
            [task_id for task_id, _ in unknown],
            [step_id for _, step_id in unknown],
            self._republish_after,
            self._max_losses,
        )
        return effects_of(facts)


def _settle_arguments(settlements: Sequence[Settlement]) -> list[object]:
    numbered = list(enumerate(settlements, start=1))
    following = [(place, step) for place, settlement in numbered for step in settlement.next]
    joins = [(place, join) for place, settlement in numbered for join in settlement.joins]
    return [
        [settlement.attempt.task.task_id for settlement in settlements],
        [settlement.attempt.step_id for settlement in settlements],
        [settlement.attempt.attempt for settlement in settlements],
        [settlement.state for settlement in settlements],
        [settlement.output.data if settlement.output else None for settlement in settlements],
        [
            settlement.output.content_type if settlement.output else None
            for settlement in settlements
        ],
        [
            json_text(settlement.failure.to_json()) if settlement.failure else None
            for settlement in settlements
        ],
        [settlement.due_at for settlement in settlements],
        [settlement.items for settlement in settlements],
        [settlement.sink for settlement in settlements],
        [settlement.event for settlement in settlements],
        [place for place, _ in following],
        [step.step_id for _, step in following],
        [step.ordinal for _, step in following],
        [step.item for _, step in following],
        [step.queue for _, step in following],
        [step.input for _, step in following],
        [step.claim for _, step in following],
        [place for place, _ in joins],
        [join.step_id for _, join in joins],
        [join.claim for _, join in joins],
    ]


def _continued(settlement: Settlement, started: dict[tuple[UUID, str], Row]) -> Attempt | None:
    """Take the step that this settlement started for its own session, if it did."""
    task = settlement.attempt.task
    for step in settlement.next:
        if fact := started.pop((task.task_id, step.step_id), None):
            return Attempt(
                task=task,
                step_id=step.step_id,
                ordinal=step.ordinal,
                attempt=fact["attempt"],
                item=step.item,
                item_input=step.input,
            )
    for join in settlement.joins:
        if fact := started.pop((task.task_id, join.step_id), None):
            return Attempt(
                task=task,
                step_id=join.step_id,
                ordinal=fact["ordinal"],
                attempt=fact["attempt"],
                items=fact["items"],
                failures=fact["failures"],
            )
    return None


def _context(row: Row) -> TaskContext:
    return TaskContext(
        task_id=row["task_id"],
        tenant_id=row["tenant_id"],
        graph_hash=row["graph_hash"],
        input=Blob(row["input"], row["input_type"]),
        traceparent=row["traceparent"],
    )
