"""The record does what the model says, whatever happens in whatever order.

Tasks of random graphs are driven through both by random workers, owners and clocks; after
each step of it they must agree. STEPWIRE_PROPERTY_EXAMPLES asks for more examples, drawn at
random, than the few that are the same on every run.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stepwire.db import migrate, open_pool
from tests.property.driver import Driver
from tests.property.graphs import node_lists
from tests.property.model import Task
from tests.property.model_values import FINAL, Ending
from tests.property.record import Record

EXAMPLES = int(os.environ.get("STEPWIRE_PROPERTY_EXAMPLES", "0"))
EXAMPLES_EACH_RUN = 40
STEPS_OF_AN_EXAMPLE = 30
MAX_ROUNDS = 200
LATE = st.integers(0, 2)


class Machine(Driver):
    """What may happen to tasks, and what must be true of them whenever it has."""

    @initialize()
    def open_sessions(self) -> None:
        self.sessions = [self.do(self.record.session()) for _ in range(2)]

    # What may happen.

    @precondition(lambda self: sum(t.state not in FINAL for t in self.tasks.values()) < 3)
    @rule(nodes=node_lists())
    def create(self, nodes: Any) -> None:
        task_id, ready = self.do(self.record.create(nodes))
        task = self.tasks[task_id] = Task(nodes)
        assert len(task.became_ready) == ready
        task.became_ready.clear()

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), which=st.integers(0, 1))
    def claim(self, data: st.DataObject, which: int) -> None:
        ready = self.ready()
        places = data.draw(st.sets(st.sampled_from(range(len(ready))), min_size=1, max_size=4))
        self.claim_all(self.sessions[which], [ready[place] for place in sorted(places)])

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), which=st.integers(0, 1))
    def claim_what_was_claimed(self, data: st.DataObject, which: int) -> None:
        hand = self.draw_hand(data, self.hands)
        attempt = hand.attempt
        self.claim_all(self.sessions[which], [(hand.task_id, attempt.step_id, attempt.attempt)])

    @precondition(lambda self: self.in_hand())
    @rule(data=st.data())
    def announce(self, data: st.DataObject) -> None:
        hand = self.draw_hand(data, self.in_hand())
        effects = self.do(self.record.steps.start(hand.session, [hand.attempt]))
        task, attempt = self.tasks[hand.task_id], hand.attempt
        hand.announced = task.announce(attempt.step_id, attempt.attempt, hand.session)
        assert bool(effects.events) == hand.announced

    @precondition(lambda self: self.in_hand())
    @rule(data=st.data(), claims=st.sampled_from((0, 1, 64)))
    def settle(self, data: st.DataObject, claims: int) -> None:
        first = self.draw_hand(data, self.in_hand())
        same = [hand for hand in self.in_hand() if hand.session == first.session]
        hands = [first]
        for _ in range(data.draw(st.integers(0, 3))):
            more = self.draw_hand(data, same)
            if more not in hands:
                hands.append(more)
        ends = [(hand, self.draw_end(data, hand)) for hand in hands]
        self.settle_all(first.session, ends, claims=claims)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), which=st.integers(0, 1))
    def settle_whatever_was_claimed(self, data: st.DataObject, which: int) -> None:
        """Settle an attempt that may be over, or in the name of the other session."""
        hand = self.draw_hand(data, self.hands)
        end = self.draw_end(data, hand)
        self.settle_all(self.sessions[which], [(hand, end)], claims=1)

    @precondition(lambda self: self.outdated())
    @rule(data=st.data())
    def settle_an_earlier_run(self, data: st.DataObject) -> None:
        """Settle what the session has run before of a step that it runs again."""
        hand = self.draw_hand(data, self.outdated())
        self.settle_all(hand.session, [(hand, self.draw_end(data, hand))], claims=1)

    @precondition(lambda self: self.in_hand())
    @rule(which=st.integers(0, 1), late=LATE)
    def lose_a_session(self, which: int, late: int) -> None:
        if late:
            return
        session = self.sessions[which]
        effects = self.do(self.record.lose(session))
        for task in self.tasks.values():
            task.lose(session)
        self.expect(effects)
        self.sessions[which] = self.do(self.record.session())

    @precondition(lambda self: self.any_step("WAITING"))
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        task_id = self.draw_task(data)
        effects = self.do(self.record.time_passes(task_id))
        self.tasks[task_id].time_passes()
        self.expect(effects)

    @precondition(lambda self: self.any_task("PENDING", "RUNNING", "PAUSED"))
    @rule(data=st.data(), late=LATE)
    def deadline_passes(self, data: st.DataObject, late: int) -> None:
        if late:
            return
        task_id = self.draw_task(data)
        self.do(self.record.deadline_passes(task_id))
        self.tasks[task_id].deadline_passes()

    @precondition(lambda self: self.any_task("PENDING", "RUNNING", "PAUSED"))
    @rule(data=st.data())
    def signal(self, data: st.DataObject) -> None:
        task_id = self.draw_task(data)
        effects = self.do(self.record.signal(task_id, b"1"))
        self.tasks[task_id].signal(b"1")
        self.expect(effects)

    @precondition(lambda self: self.any_task("PENDING", "RUNNING"))
    @rule(data=st.data(), late=LATE)
    def pause(self, data: st.DataObject, late: int) -> None:
        if late:
            return
        task_id = self.draw_task(data)
        self.do(self.record.tasks.pause(task_id, request_id=""))
        self.tasks[task_id].pause()

    @precondition(lambda self: self.any_task("PAUSED"))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.resume_one(self.draw_task(data, "PAUSED"))

    @precondition(lambda self: self.any_task("FAILED"))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self.retry_one(self.draw_task(data, "FAILED"))

    @precondition(lambda self: self.any_task("PENDING", "RUNNING", "PAUSED"))
    @rule(data=st.data(), late=LATE)
    def cancel(self, data: st.DataObject, late: int) -> None:
        if late:
            return
        task_id = self.draw_task(data)
        self.do(self.record.tasks.cancel(task_id))
        self.tasks[task_id].cancel()

    # What is true at any time.

    @invariant()
    def the_record_agrees(self) -> None:
        for task_id, task in self.tasks.items():
            row = self.do(self.record.task(task_id))
            assert row["state"] == task.state
            assert row["started"] == task.started
            assert row["ended"] == (task.state in FINAL)
            assert self.do(self.record.rows(task_id)) == {
                key: (
                    step.state,
                    step.attempt,
                    step.session,
                    step.waits_for,
                    step.failures,
                    step.output,
                    step.fired or step.state != "BLOCKED",
                )
                for key, step in task.recorded().items()
            }
            events = self.do(self.record.events(task_id))
            assert row["last_cursor"] == len(events)
            assert _sorted_losses(events) == _sorted_losses(task.events)

    @invariant()
    def nothing_is_taken_back(self) -> None:
        for task_id, task in self.tasks.items():
            for key, step in task.steps.items():
                if step.state == "SUCCEEDED":
                    known = self.outputs.setdefault((task_id, key), step.output)
                    assert step.output == known
                else:
                    assert (task_id, key) not in self.outputs
            if task.state in ("SUCCEEDED", "CANCELLED"):
                assert not any(step.open for step in task.recorded().values())
            if task.state in FINAL:
                assert not any(step.state == "READY" for step in task.steps.values())
            ended = [e for e in task.events if e[0] in ("STEP_SUCCEEDED", "STEP_SKIPPED")]
            assert len({step_id for _, step_id, _ in ended}) == len(ended)

    def teardown(self) -> None:
        """Let one step fail, and all go well from there on: every task comes to its end."""
        if not self.sessions:
            return
        try:
            self.fail_once()
            for task_id in self.tasks:
                self.resume_one(task_id)
                self.retry_one(task_id)
            for _ in range(MAX_ROUNDS):
                if all(task.state in FINAL for task in self.tasks.values()):
                    break
                self.one_good_round()
            self.the_record_agrees()
            self.nothing_is_taken_back()
            assert all(task.state in FINAL for task in self.tasks.values())
        finally:
            for task_id in self.tasks:
                self.do(self.record.tasks.cancel(task_id))
            for session in self.sessions:
                self.do(self.record.lose(session))

    def one_good_round(self) -> None:
        if self.ready():
            self.claim_all(self.sessions[0], self.ready())
        for hand in self.outdated():
            self.settle_all(
                hand.session, [(hand, self.do(self.decide(hand, Ending.SUCCESS)))], claims=1
            )
        self.end_what_runs(claims=64)
        for task_id, task in self.tasks.items():
            effects = self.do(self.record.time_passes(task_id))
            task.time_passes()
            self.expect(effects)

    def fail_once(self) -> None:
        """Fail one step; what runs beside it ends before the task is tried again."""
        if self.ready():
            self.claim_all(self.sessions[0], self.ready())
        if hands := self.in_hand():
            end = self.do(self.decide(hands[0], Ending.PERMANENT_FAILURE))
            self.settle_all(hands[0].session, [(hands[0], end)], claims=0)
        self.end_what_runs(claims=0)

    def end_what_runs(self, *, claims: int) -> None:
        while hands := self.in_hand():
            ends = [(hands[0], self.do(self.decide(hands[0], Ending.SUCCESS)))]
            self.settle_all(hands[0].session, ends, claims=claims)


def _sorted_losses(events: Sequence[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Put steps that were lost together in order: the record has no order among them."""
    result: list[tuple[str, str, int]] = []
    lost: list[tuple[str, str, int]] = []
    for event in events:
        if event[0] == "STEP_LOST":
            lost.append(event)
        else:
            result += [*sorted(lost), event]
            lost = []
    return [*result, *sorted(lost)]


@pytest.mark.timeout(max(300, EXAMPLES * 10))
def test_the_record_does_what_the_model_says(database_url: str) -> None:
    with asyncio.Runner() as loop:

        async def opened() -> Any:
            pool = await stack.__aenter__()
            await migrate(pool, package="executor_svc", schema="executor")
            return Record(pool)

        stack = open_pool(database_url, application_name="test", max_size=2)
        Machine.loop, Machine.record = loop, loop.run(opened())
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=EXAMPLES or EXAMPLES_EACH_RUN,
                    stateful_step_count=STEPS_OF_AN_EXAMPLE,
                    derandomize=not EXAMPLES,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            loop.run(stack.__aexit__(None, None, None))
