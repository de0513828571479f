"""Drives tasks through the model and the record side by side, one thing at a time."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from executor_svc.engine.ports import Effects
from executor_svc.engine.records import Attempt, Phase
from tests.property.graphs import MAX_ITEMS, node_lists
from tests.property.model import Task
from tests.property.model_values import End, Ending, Why
from tests.property.record import Decided, Record

PHASES = {Why.NEW: Phase.NEW, Why.CAME: Phase.CAME, Why.UNSATISFIED: Phase.UNSATISFIED}
T = TypeVar("T")


@dataclass(eq=False)
class Hand:
    """An attempt that a session was given, be it over or not."""

    session: UUID
    attempt: Attempt
    announced: bool = False

    @property
    def task_id(self) -> UUID:
        return self.attempt.task.task_id


class Driver(RuleBasedStateMachine):
    """Tasks in the record, and the same tasks in the model."""

    loop: asyncio.Runner
    record: Record

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[UUID, Task] = {}
        self.sessions: list[UUID] = []
        self.hands: list[Hand] = []
        self.outputs: dict[tuple[UUID, str], bytes | None] = {}

    def do(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.loop.run(wait())

    def any_task(self, *states: str) -> bool:
        return any(task.state in states for task in self.tasks.values())

    def any_step(self, state: str) -> bool:
        return any(
            step.state == state for task in self.tasks.values() for step in task.steps.values()
        )

    def ready(self) -> list[tuple[UUID, str, int]]:
        return [
            (task_id, step.step_id, step.attempt)
            for task_id, task in self.tasks.items()
            for step in task.steps.values()
            if step.state == "READY"
        ]

    def in_hand(self) -> list[Hand]:
        """The attempts that run."""
        return [hand for hand in self.hands if self.runs(hand)]

    def outdated(self) -> list[Hand]:
        """The runs of steps that their session runs again by now."""
        again = {(hand.task_id, hand.attempt.step_id, hand.session) for hand in self.in_hand()}
        return [
            hand
            for hand in self.hands
            if (hand.task_id, hand.attempt.step_id, hand.session) in again and not self.runs(hand)
        ]

    def runs(self, hand: Hand) -> bool:
        step, attempt = self.tasks[hand.task_id].steps[hand.attempt.step_id], hand.attempt
        mine = (hand.session, attempt.attempt, PHASES[step.why])
        return step.state == "RUNNING" and (step.session, step.attempt, attempt.phase) == mine

    def draw_task(self, data: st.DataObject, state: str | None = None) -> UUID:
        """Draw a task, one in this state if there is one."""
        tasks = list(self.tasks)
        places = [place for place, each in enumerate(tasks) if self.tasks[each].state == state]
        return tasks[data.draw(st.sampled_from(places or range(len(tasks))))]

    def draw_hand(self, data: st.DataObject, hands: Sequence[Hand]) -> Hand:
        return hands[data.draw(st.integers(0, len(hands) - 1))]

    def draw_end(self, data: st.DataObject, hand: Hand) -> Decided:
        ending = data.draw(st.sampled_from(self.endings(hand.attempt)))
        items = data.draw(st.integers(0, MAX_ITEMS)) if ending is Ending.ITEMS else 0
        nodes = data.draw(node_lists(most=3)) if ending is Ending.STEPS else ()
        return self.do(self.decide(hand, ending, items=items, nodes=nodes))

    def decide(self, hand: Hand, ending: Ending, **what: Any) -> Awaitable[Decided]:
        step = self.tasks[hand.task_id].steps[hand.attempt.step_id]
        node, attempt = step.node, hand.attempt
        if ending is Ending.SUCCESS and attempt.phase is Phase.NEW:
            if node.each and attempt.item is None:
                ending, what = Ending.ITEMS, {"items": 3}
            elif node.waits:
                ending = Ending.WAIT
        return self.record.decide(attempt, ending, waits_for=node.waits, **what)

    def endings(self, attempt: Attempt) -> Sequence[Ending]:
        """How an attempt may end by itself."""
        node = self.tasks[attempt.task.task_id].steps[attempt.step_id].node
        if attempt.phase is Phase.UNSATISFIED or attempt.items is not None:
            return (Ending.SUCCESS, Ending.SUCCESS, Ending.DECLINED)
        endings = [
            *[Ending.SUCCESS] * 4,
            Ending.FAILURE,
            Ending.PERMANENT_FAILURE,
            Ending.DECLINED,
        ]
        if attempt.phase is Phase.NEW:
            if node.may_skip and attempt.item is None:
                endings.append(Ending.SKIP)
            if not (node.each and attempt.item is None) and attempt.step_id.count("/") < 2:
                endings.append(Ending.STEPS)
        return endings

    def claim_all(self, session: UUID, wanted: Sequence[tuple[UUID, str, int]]) -> None:
        attempts = self.do(self.record.claim(session, wanted))
        expected = {
            (task_id, step_id)
            for task_id, step_id, attempt in wanted
            if self.tasks[task_id].claim(step_id, attempt, session)
        }
        assert {(each.task.task_id, each.step_id) for each in attempts} == expected
        self.take(session, attempts)

    def take(self, session: UUID, attempts: Sequence[Attempt]) -> None:
        # In an order that is the same whenever an example is run.
        places = {task_id: place for place, task_id in enumerate(self.tasks)}
        for attempt in sorted(attempts, key=lambda a: (places[a.task.task_id], a.step_id)):
            step = self.tasks[attempt.task.task_id].steps[attempt.step_id]
            assert attempt.phase is PHASES[step.why]
            self.hands.append(Hand(session, attempt))

    def settle_all(
        self, session: UUID, ends: Sequence[tuple[Hand, Decided]], *, claims: int
    ) -> None:
        settled, effects = self.do(
            self.record.settle(
                session,
                [(hand.attempt, decided, hand.announced) for hand, decided in ends],
                claims=claims,
            )
        )
        by_task: dict[UUID, list[int]] = {}
        for place, (hand, _) in enumerate(ends):
            by_task.setdefault(hand.task_id, []).append(place)
        for task_id, places in by_task.items():
            expected = self.tasks[task_id].settle(
                session, [_end_of(*ends[place]) for place in places]
            )
            assert [settled.accepted[place] for place in places] == expected
        for attempt in settled.started:
            task = self.tasks[attempt.task.task_id]
            assert task.claim(attempt.step_id, attempt.attempt, session), attempt.step_id
            task.became_ready.remove((attempt.step_id, attempt.attempt))
        self.take(session, settled.started)
        self.expect(effects)

    def resume_one(self, task_id: UUID) -> None:
        effects = self.do(self.record.tasks.resume(task_id, request_id=""))
        self.tasks[task_id].resume()
        self.expect(effects)

    def retry_one(self, task_id: UUID) -> None:
        effects = self.do(self.record.retry(task_id))
        self.tasks[task_id].retry()
        self.expect(effects)

    def expect(self, effects: Effects | None) -> None:
        """Assert that exactly what has become ready is to be published."""
        ready = () if effects is None else effects.ready
        published = [(ref.task_id, ref.step_id, ref.attempt) for ref in ready]
        expected = {
            (task_id, *each) for task_id, task in self.tasks.items() for each in task.became_ready
        }
        assert len(published) == len(set(published))
        assert set(published) == expected, (set(published) ^ expected, expected)
        for task in self.tasks.values():
            task.became_ready.clear()


def _end_of(hand: Hand, decided: Decided) -> End:
    outcome = decided.outcome
    blob = getattr(outcome, "output", None)
    return End(
        hand.attempt.step_id,
        hand.attempt.attempt,
        hand.attempt.phase is Phase.NEW,
        decided.ending,
        output=None if blob is None else blob.data,
        items=decided.items,
        nodes=decided.nodes,
        announced=hand.announced,
    )
