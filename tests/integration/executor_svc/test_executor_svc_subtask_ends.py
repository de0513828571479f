"""However a step ends that has made a subtask, or was about to: none goes on without it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from executor_svc.engine.outcomes import Added, Compensated, Expanded, Outcome, Skipped
from executor_svc.engine.records import Attempt, NewTask
from executor_svc.graphs.graph import Graph
from executor_svc.tasks.ports import AttemptsOverError
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import graph, transform
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    Record,
    compiled_graph,
    transition_record,
    undo_settlement,
)

__all__ = ["transition_record"]

HOUR = timedelta(hours=1)
ANY = {"mode": "JOIN_MODE_ANY"}
CHILD = {"name": "child", "subtask": {"graph": graph(transform("a", "1"))}}
UNDONE = transform("kept", "1", compensation={"python": {"function": "test.echo"}})
REQUEST_ID = "subtask/of/child"


@dataclass
class Family:
    """A task of which an attempt makes a subtask."""

    record: Record
    graph: Graph
    task: NewTask
    session_id: UUID
    attempt: Attempt

    async def make(self) -> NewTask:
        """Make the subtask."""
        _, made = await self.record.subtask(self.attempt, request_id=REQUEST_ID)
        return made

    async def run(self, *step_ids: str) -> None:
        await self.record.run(self.session_id, self.graph, self.task.task_id, *step_ids)

    async def settle(self, outcome: Outcome) -> None:
        settled, _ = await self.record.settle(self.session_id, self.graph, [self.attempt], outcome)
        assert settled.accepted == [True]

    async def abandoned(self) -> list[str]:
        """The subtasks that are to be cancelled."""
        rows = await self.record.pool.fetch(
            "SELECT DISTINCT payload ->> 'child' AS child FROM executor.notices"
            " WHERE kind = 'cancel_child' AND task_id = $1",
            self.task.task_id,
        )
        return [row["child"] for row in rows]


async def cancelled(family: Family) -> None:
    assert await family.record.tasks.cancel(family.task.task_id)


async def too_late(family: Family) -> None:
    await family.record.pool.execute(
        "UPDATE executor.deadlines SET deadline = now() - interval '1 s'"
    )
    assert (await family.record.sweep.expire_tasks()).events


async def left_over(family: Family) -> None:
    await family.run("other")
    await family.run("join")


async def pruned(family: Family) -> None:
    await family.run("child[1]")
    await family.run("child")


async def failed(family: Family) -> None:
    await family.settle(FAILURE)


async def skipped(family: Family) -> None:
    await family.settle(Skipped())


async def compensated(family: Family) -> None:
    """What was to undo the task has given up on its running steps."""
    record, task_id = family.record, family.task.task_id
    bad = await record.claim(family.session_id, task_id, "bad")
    await record.settle(family.session_id, family.graph, bad, FAILURE)
    (undo,) = await record.claim(family.session_id, task_id, "~undo")
    await record.steps.settle(family.session_id, [undo_settlement(undo, Compensated([]))])
    assert await record.task_state(task_id) == "FAILED"


OTHER = transform("other", "1")
JOIN = transform("join", "1", depends_on=["child", "other"], join=ANY)
TOLERANT = transform("after", "1", depends_on=["child"], join={"mode": "JOIN_MODE_ALL_DONE"})
EACH = {**CHILD, "for_each": "[1, 2]", "items_join": ANY}
ENDS: dict[str, tuple[Callable[[Family], Awaitable[None]], Sequence[dict[str, Any]]]] = {
    "cancelled": (cancelled, [CHILD]),
    "cancelled, of a step that was added": (cancelled, [{**OTHER, "name": "adds"}]),
    "too late": (too_late, [CHILD]),
    "too late, and undone": (too_late, [CHILD, UNDONE]),
    "not needed by an early join": (left_over, [CHILD, OTHER, JOIN]),
    "not needed of all items": (pruned, [EACH]),
    "failed": (failed, [CHILD, TOLERANT]),
    "skipped": (skipped, [CHILD, TOLERANT]),
    "compensated": (compensated, [CHILD, UNDONE, {**OTHER, "name": "bad"}]),
}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def family(record: Record, end: str) -> Family:
    _, steps = ENDS[end]
    compiled, task = await record.task(*steps, timeout=HOUR)
    session_id = await record.session()
    name = "child"
    if "added" in end:
        added = Added(compiled_graph(CHILD), b"null")
        await record.steps.add_graph(added.graph)
        await record.run(session_id, compiled, task.task_id, "adds", outcome=added)
        name = "adds/child"
    elif "items" in end:
        items = Expanded([b"1", b"2"])
        await record.run(session_id, compiled, task.task_id, "child", outcome=items)
        name = "child[0]"
    (attempt,) = await record.claim(session_id, task.task_id, name)
    return Family(record, compiled, task, session_id, attempt)


async def test_a_subtask_is_cancelled_whose_step_ends_before_it_waits_for_it(
    family: Family, end: str
) -> None:
    made = await family.make()
    await ENDS[end][0](family)
    assert await family.abandoned() == [str(made.task_id)]
    # Another attempt of the step makes one of its own.
    assert not await family.record.tasks.find([made])


async def test_no_subtask_is_made_for_a_step_that_has_ended(family: Family, end: str) -> None:
    await ENDS[end][0](family)
    with pytest.raises(AttemptsOverError) as caught:
        await family.make()
    assert len(caught.value.tasks) == 1
    assert not await family.record.pool.fetch(
        "SELECT FROM executor.tasks WHERE parent_task_id IS NOT NULL"
    )


@pytest.mark.parametrize("end", ["cancelled"], indirect=True)
async def test_a_subtask_that_is_made_while_its_parent_is_cancelled_is_refused(
    family: Family,
) -> None:
    async with family.record.pool.acquire() as connection:
        cancelling = connection.transaction()
        await cancelling.start()
        await connection.execute("SELECT executor.cancel_task_v1($1)", family.task.task_id)
        making = asyncio.create_task(family.make())

        async def waits_or_is_done() -> bool:
            blocked = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return making.done() or bool(blocked)

        await eventually(waits_or_is_done, 10)
        await cancelling.commit()
    with pytest.raises(AttemptsOverError):
        await making
