"""A walk: tasks with subtasks, to which things happen in an order drawn from a seed."""

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from executor_svc.engine.outcomes import Added, Compensated, Expanded, Outcome, Skipped, Waits
from executor_svc.engine.records import Attempt, Phase, StepRef
from executor_svc.graphs.graph import Graph
from executor_svc.tasks.creator import Submission, new_task
from executor_svc.tasks.family import Family
from executor_svc.tasks.ports import AttemptsOverError
from executor_svc.tasks.retry import plan_retry
from executor_svc.waking.announce import Announcer
from executor_svc.waking.relay import Notice
from stepwire.ids import uuid7
from tests.integration.executor_svc.executor_mesh import graph, transform
from tests.integration.executor_svc.transition_record import (
    FAILURE,
    NULL,
    OUTPUT,
    RETRYABLE,
    Record,
    compiled_graph,
    settlement,
    undo_settlement,
)

HOUR = timedelta(hours=1)
OVER: dict[Phase, Outcome] = {Phase.UNSATISFIED: Skipped(), Phase.EXPIRED: FAILURE}
ANY = {"mode": "JOIN_MODE_ANY"}
ALL_DONE = {"mode": "JOIN_MODE_ALL_DONE"}
CHILD = {"name": "child", "subtask": {"graph": graph(transform("leaf", "1"))}}
LEAF = compiled_graph(transform("leaf", "1"))
ADDED = compiled_graph(CHILD, {**CHILD, "name": "other"})
OTHER = transform("other", "1")
UNDONE = transform("kept", "1", compensation={"python": {"function": "test.echo"}})
SHAPES = [
    compiled_graph(CHILD, transform("after", "1", depends_on=["child"])),
    compiled_graph(CHILD, transform("after", "1", depends_on=["child"], join=ALL_DONE)),
    compiled_graph(
        {**CHILD, "schedule_to_close": {"seconds": 60}},
        OTHER,
        transform("join", "1", depends_on=["child", "other"], join=ANY),
    ),
    compiled_graph({**CHILD, "for_each": "[1, 2, 3]", "items_join": ANY, "max_parallel": 2}),
    compiled_graph({**CHILD, "for_each": "[1, 2, 3]", "items_join": ALL_DONE}),
    compiled_graph(CHILD, transform("adds", "1")),
    compiled_graph(CHILD, UNDONE, transform("bad", "1")),
]
# Open subtasks for which no step waits, nor is about to look at them, and that no attempt finds.
ALONE = """
    SELECT c.task_id, s.step_id, s.state, s.phase, s.waits_for, s.inbox, q.request_id
    FROM executor.tasks c
    JOIN executor.steps s ON s.task_id = c.parent_task_id AND s.step_id = c.parent_step_id
    LEFT JOIN executor.requests q ON q.task_id = c.task_id
    CROSS JOIN LATERAL (
        SELECT coalesce(btrim(convert_from(s.inbox, 'utf8'), '"'), '') AS last
    ) AS waited
    WHERE c.ended_at IS NULL AND (s.ended_at IS NOT NULL OR CASE
        WHEN s.waits_for LIKE 'task:%' THEN s.waits_for <> 'task:' || c.task_id
        WHEN s.phase = 2 THEN waited.last <> c.task_id::text
        ELSE split_part(q.request_id, '/', 4) IS DISTINCT FROM waited.last END)
"""
IN_VAIN = """
    SELECT s.step_id FROM executor.steps s
    JOIN executor.tasks c ON 'task:' || c.task_id = s.waits_for WHERE c.ended_at IS NOT NULL
"""
# An owner retries tasks of his own, and subtasks of which he sees that they are waited for.
RETRIED = """
    SELECT t.task_id FROM executor.tasks t WHERE t.state = 'FAILED' AND (t.parent_task_id IS NULL
        OR EXISTS (SELECT FROM executor.steps s WHERE s.waits_for = 'task:' || t.task_id))
    ORDER BY t.task_id
"""
OPEN = "SELECT task_id FROM executor.tasks WHERE ended_at IS NULL ORDER BY task_id"
ROOTS = "SELECT task_id FROM executor.deadlines ORDER BY task_id"
PAUSED = "SELECT task_id FROM executor.tasks WHERE state = 'PAUSED'"
READY = "SELECT task_id, step_id, attempt FROM executor.steps WHERE state = 'READY' ORDER BY 1, 2"


class Silent(Announcer):
    """Tells nobody."""

    def __init__(self) -> None:
        pass

    def announce(self, *_: Any, **__: Any) -> None:
        pass


class Walk:
    """What happens to the tasks of a record; once `calm`, only what leads to their end."""

    def __init__(self, record: Record, seed: int) -> None:
        self.record = record
        self.calm = False
        self._rng = random.Random(seed)
        self._family = Family(record.tasks, Silent())
        self._graphs: dict[UUID, Graph] = {}
        self._sessions: list[UUID] = []
        # Attempts in hand, whether or not they are over; and the subtasks that some have made.
        self._hands: list[tuple[UUID, Attempt]] = []
        self._made: dict[StepRef, UUID] = {}

    async def go(self, deeds: int) -> None:
        """Let so many things happen."""
        self._sessions = [await self.record.session() for _ in range(2)]
        likely: dict[Callable[[], Awaitable[object]], float] = {
            self._begin: 2,
            self._claim: 8,
            self._act: 14,
            self._lose: 1,
            self._cancel: 2,
            self._be_late: 1,
            self._retry: 2,
            self._pause: 1,
            self._wake: 2,
            self._relay: 4,
        }
        for deed in self._rng.choices(list(likely), list(likely.values()), k=deeds):
            await deed()
        await self._relay_all()

    async def finish(self, rounds: int = 30) -> None:
        """Let nothing more go wrong, until everything has ended."""
        self.calm = True
        await self._lose()
        await self._lose()
        self._hands.clear()
        for row in await self.record.pool.fetch(PAUSED):
            await self.record.tasks.resume(row["task_id"], request_id=str(uuid7()))
        for _ in range(rounds):
            if not await self.record.pool.fetch(OPEN):
                break
            await self._wake()
            await self._claim()
            while self._hands:
                await self._act()
            await self._relay_all()

    async def _begin(self) -> None:
        shape = self._rng.choice(SHAPES)
        await self.record.tasks.add_graphs([shape, LEAF, ADDED])
        task = new_task(Submission("default", shape, NULL, timeout=HOUR))
        assert await self.record.tasks.create([task])
        self._graphs[task.task_id] = shape

    async def _draw(self, statement: str) -> UUID | None:
        rows = await self.record.pool.fetch(statement)
        return self._rng.choice(rows)["task_id"] if rows else None

    async def _claim(self) -> None:
        rows = await self.record.pool.fetch(READY)
        refs = [
            StepRef(row["task_id"], row["step_id"], row["attempt"], "default")
            for row in rows
            if self.calm or self._rng.random() < 0.6
        ]
        session_id = self._rng.choice(self._sessions)
        claimed = await self.record.steps.claim(session_id, refs)
        self._hands += [(session_id, each) for each in claimed]

    async def _act(self) -> None:
        """Let an attempt take its next step, be it still the one that runs or not."""
        if not self._hands:
            return
        session_id, attempt = self._rng.choice(self._hands)
        outcome = await self._outcome(attempt)
        if outcome is None:
            return
        self._hands.remove((session_id, attempt))
        # Most answers arrive.
        for _ in range(1 if self.calm or self._rng.random() < 0.85 else 2):
            await self.record.steps.settle(session_id, [self._settlement(attempt, outcome)])

    def _settlement(self, attempt: Attempt, outcome: Outcome) -> Any:
        if attempt.ordinal < 0:
            return undo_settlement(attempt, outcome)
        return settlement(self._graph_of(attempt), attempt, outcome)

    def _graph_of(self, attempt: Attempt) -> Graph:
        return self._graphs[attempt.task.task_id] if attempt.scope is None else ADDED

    async def _outcome(self, attempt: Attempt) -> Outcome | None:
        """How an attempt ends; None if it only makes its subtask."""
        if attempt.ordinal < 0:
            return Compensated([])
        if attempt.phase in OVER or attempt.items is not None:
            return OVER.get(attempt.phase, OUTPUT)
        step = self._graph_of(attempt).steps[attempt.ordinal]
        if step.for_each is not None and attempt.item is None:
            return Expanded([b"1", b"2", b"3"])
        if step.kind != "subtask":
            return self._end(step.name)
        return await (self._look if attempt.phase is Phase.CAME else self._make)(attempt)

    def _end(self, name: str) -> Outcome:
        if name == "adds" and self._is_likely():
            return Added(ADDED, b"null")
        if self.calm:
            return OUTPUT
        return FAILURE if name == "bad" else self._any_of(OUTPUT, OUTPUT, FAILURE, RETRYABLE)

    def _is_likely(self) -> bool:
        return self.calm or self._rng.random() < 0.75

    def _any_of(self, *outcomes: Outcome) -> Outcome:
        return self._rng.choice(outcomes)

    async def _make(self, attempt: Attempt) -> Outcome | None:
        made = self._made.get(_ref(attempt))
        if made is not None and self._is_likely():
            return Waits(f"task:{made}", keep=orjson.dumps(str(made)))
        if made is None and self._is_likely():
            made = await self._subtask(attempt)
            if made is None:
                return FAILURE
            self._made[_ref(attempt)] = made
            return None
        return self._any_of(FAILURE, RETRYABLE, Skipped())

    async def _subtask(self, attempt: Attempt) -> UUID | None:
        """Make or find the subtask, as a worker does; None for an attempt that is over."""
        step = hashlib.sha256(attempt.step_id.encode()).hexdigest()[:16]
        before = "" if attempt.inbox is None else orjson.loads(attempt.inbox)
        name = f"subtask/{attempt.task.task_id}/{step}/{before}"
        task = new_task(Submission("default", LEAF, NULL, request_id=name, parent=_ref(attempt)))
        known = await self.record.tasks.find([task])
        if known:
            return next(iter(known.values())).task_id
        try:
            assert await self.record.tasks.create([task])
        except AttemptsOverError:
            return None
        self._graphs[task.task_id] = LEAF
        return task.task_id

    async def _look(self, attempt: Attempt) -> Outcome:
        assert attempt.inbox is not None
        child = UUID(orjson.loads(attempt.inbox))
        state = await self.record.task_state(child)
        ends: dict[str, Outcome] = {"SUCCEEDED": OUTPUT, "FAILED": RETRYABLE, "CANCELLED": FAILURE}
        return ends.get(state, Waits(f"task:{child}", keep=attempt.inbox))

    async def _lose(self) -> None:
        await self.record.expire(self._sessions.pop(0))
        self._sessions.append(await self.record.session())

    async def _cancel(self) -> None:
        if (task_id := await self._draw(OPEN)) is not None:
            await self.record.tasks.cancel(task_id)

    async def _be_late(self) -> None:
        await self.record.pool.execute(
            "UPDATE executor.deadlines SET deadline = now() - interval '1 s' WHERE task_id = $1",
            await self._draw(ROOTS),
        )
        await self.record.sweep.expire_tasks()

    async def _retry(self) -> None:
        if (task_id := await self._draw(RETRIED)) is not None:
            plan = partial(plan_retry, self._graphs[task_id], {ADDED.graph_hash: ADDED})
            await self.record.tasks.retry(task_id, request_id=str(uuid7()), place=None, plan=plan)

    async def _pause(self) -> None:
        if (task_id := await self._draw(OPEN)) is not None:
            tasks = self.record.tasks
            verb = self._rng.choice([tasks.pause, tasks.resume])
            await verb(task_id, request_id=str(uuid7()))

    async def _wake(self) -> None:
        which = "waits_for = 'retry'"
        if not self.calm and self._rng.random() < 0.3:
            which = "expires_at IS NOT NULL"
        await self.record.pool.execute(
            "UPDATE executor.steps SET due_at = now() - interval '1 s', expires_at = least("
            "expires_at, CASE WHEN waits_for <> 'retry' THEN now() - interval '1 s' END)"
            f" WHERE state = 'WAITING' AND {which}"
        )
        await self.record.sweep.wake_due()

    async def _relay(self) -> bool:
        """Carry out any notice; now and then without being able to say so."""
        rows: Sequence[Any] = await self.record.pool.fetch(
            "SELECT * FROM executor.notices ORDER BY notice_id"
        )
        if not rows:
            return False
        row = self._rng.choice(rows)
        notice = Notice(
            row["notice_id"],
            row["kind"],
            row["tenant_id"],
            row["task_id"],
            orjson.loads(row["payload"]),
            row["created_at"],
        )
        carry_out = {"parent": self._family.wake_parent, "cancel_child": self._family.cancel_child}
        await carry_out[row["kind"]](notice)
        if self._rng.random() < 0.9:
            await self.record.pool.execute(
                "DELETE FROM executor.notices WHERE notice_id = $1", row["notice_id"]
            )
        return True

    async def _relay_all(self) -> None:
        while await self._relay():
            pass


def _ref(attempt: Attempt) -> StepRef:
    return StepRef(attempt.task.task_id, attempt.step_id, attempt.attempt, "default")
