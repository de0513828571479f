"""What becomes of a task, said as plainly as possible. Pure, and without SQL.

The reference for the executor's record: it keeps the steps and their states and nothing
else. Whether a step may start, or a task is over, is found each time from the states of
all steps; nothing is counted along.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.property.model_values import (
    FINAL,
    MAX_ATTEMPTS,
    End,
    Ending,
    Event,
    Join,
    Node,
    Step,
    Why,
    decide,
    least_of,
    path_of,
)


@dataclass
class Task:
    """A task and all its steps."""

    nodes: Sequence[Node]
    state: str = "PENDING"
    started: bool = False
    steps: dict[str, Step] = field(default_factory=dict)
    events: list[Event] = field(default_factory=lambda: [("TASK_CREATED", "", 0)])
    signals: list[bytes] = field(default_factory=list)
    became_ready: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._add(self.nodes, "")
        self._follow()

    # What happens to a task.

    def claim(self, step_id: str, attempt: int, session: Any) -> bool:
        step = self.steps[step_id]
        if (step.state, step.attempt) != ("READY", attempt) or not self.live:
            return False
        step.state, step.session, step.begun = "RUNNING", session, True
        return True

    def announce(self, step_id: str, attempt: int, session: Any) -> bool:
        if not self._runs(step_id, attempt, session):
            return False
        self._start()
        self.log("STEP_STARTED", step_id, attempt)
        return True

    def settle(self, session: Any, ends: Sequence[End]) -> list[bool]:
        accepted = [
            self._runs(end.step_id, end.attempt, session)
            and end.is_first_run is (self.steps[end.step_id].why is Why.NEW)
            for end in ends
        ]
        if not any(accepted):
            return accepted
        self._start()
        fatal = [self._end(end) for end, recorded in zip(ends, accepted, strict=True) if recorded]
        if self.state not in FINAL:
            if any(fatal):
                self._finish("FAILED")
                self._hold()
            elif all(step.state in ("SUCCEEDED", "SKIPPED") for step in self._sinks("")):
                self._finish("SUCCEEDED")
        self._follow()
        self._hand_out_signals()
        self._cancel_what_is_left_over()
        return accepted

    def lose(self, session: Any) -> None:
        for step in self.steps.values():
            if step.state == "RUNNING" and step.session == session:
                self.log("STEP_LOST", step.step_id, step.attempt)
                step.attempt += 1
                self._fire(step, step.why)

    def time_passes(self) -> None:
        """End all waits that time ends."""
        for step in self.steps.values():
            if step.state == "WAITING" and step.waits_for not in ("items", "steps"):
                self._fire(step, self._reason_to_wake(step))

    def deadline_passes(self) -> None:
        if self.state in FINAL:
            return
        self._hold()
        for step in self.steps.values():
            if step.state == "RUNNING":
                step.state, step.session, step.attempt = "BLOCKED", None, step.attempt + 1
        self._finish("FAILED")

    def signal(self, payload: bytes) -> None:
        if self.state in FINAL:
            return
        self.log("TASK_SIGNALLED")
        self.signals.append(payload)
        self._hand_out_signals()

    def pause(self) -> None:
        if self.state in ("PENDING", "RUNNING"):
            self.state = "PAUSED"
            self.log("TASK_PAUSED")
            self._hold()

    def resume(self) -> None:
        if self.state == "PAUSED":
            self.state = "RUNNING" if self.started else "PENDING"
            self.log("TASK_RESUMED")
            self._release()

    def cancel(self) -> None:
        if self.state not in FINAL:
            self._cancel(self.steps.values())
            self._finish("CANCELLED")

    def retry(self) -> None:
        if self.state != "FAILED":
            return
        self.state, self.started = "RUNNING", True
        self.log("TASK_RETRIED")
        again: dict[str, Why] = {}
        for step in list(self.steps.values()):
            if step.state == "FAILED" and not self._tolerates(step):
                self._again(step, again)
        for step_id, why in again.items():
            step = self.steps[step_id]
            step.attempt, step.state, step.failures = step.attempt + 1, "BLOCKED", 0
            step.fired = step.fired and why is not Why.UNSATISFIED
            step.why = Why.NEW if why is Why.UNSATISFIED else why
        for step in self.steps.values():
            if step.state == "BLOCKED" and step.fired:
                step.failures = 0
            if step.step_id not in again and step.state == "BLOCKED" and not step.begun:
                deps = [] if step.item is not None else self.dependencies(step)
                if any(dep.step_id in again for dep in deps):
                    step.fired, step.why = False, Why.NEW
        self._release()
        self._follow()

    def _again(self, step: Step, again: dict[str, Why]) -> None:
        """Find what must run again so that a step which has failed can succeed."""
        if step.step_id in again:
            return
        if step.item is None and self._satisfied(step) is False:
            again[step.step_id] = Why.UNSATISFIED
            for dep in self.dependencies(step):
                if dep.state == "FAILED":
                    self._again(dep, again)
            return
        again[step.step_id] = Why.CAME if any(self._descendants(step)) else Why.NEW
        items = [each for each in self.items_of(step) if each.state in ("FAILED", "CANCELLED")]
        if items:
            self._restore(step, again)

    def _restore(self, step: Step, again: dict[str, Why]) -> None:
        """Have a step wait a second time for its items, or the steps that it has added."""
        del again[step.step_id]
        step.attempt, step.state, step.failures = step.attempt + 1, "WAITING", 0
        items = self.items_of(step)
        step.waits_for = "items" if items else "steps"
        for each in self.steps.values():
            if each.scope == step.step_id or each in items:
                lacks = each.state == "CANCELLED" or (each in items and each.state == "FAILED")
                if lacks and any(self._descendants(each)) and each.state == "CANCELLED":
                    again[each.step_id] = Why.CAME
                    self._restore(each, again)
                elif lacks:
                    again[each.step_id] = Why.CAME if any(self._descendants(each)) else Why.NEW
                    each.fired = each.fired and each not in items

    # What is true of it.

    @property
    def live(self) -> bool:
        return self.state in ("PENDING", "RUNNING")

    def recorded(self) -> dict[str, Step]:
        """The steps that have a row: all that could start, and the joins."""
        return {key: step for key, step in self.steps.items() if step.state != "ABSENT"}

    def items_of(self, step: Step) -> list[Step]:
        items = [
            each
            for each in self.steps.values()
            if each.item is not None and each.step_id.rpartition("[")[0] == step.step_id
        ]
        return sorted(items, key=lambda each: each.item or 0)

    def dependencies(self, step: Step) -> list[Step]:
        return [self.steps[path_of(step.scope, name)] for name in step.node.depends_on]

    def _all_dependencies(self, step: Step) -> list[Step]:
        return [] if step.item is not None else self.dependencies(step)

    def _parent(self, item: Step) -> Step:
        return self.steps[item.step_id.rpartition("[")[0]]

    def log(self, event: str, step_id: str = "", attempt: int = 0) -> None:
        self.events.append((event, step_id, attempt))

    # How it follows.

    def _runs(self, step_id: str, attempt: int, session: Any) -> bool:
        step = self.steps.get(step_id)
        return step is not None and (step.state, step.attempt, step.session) == (
            "RUNNING",
            attempt,
            session,
        )

    def _start(self) -> None:
        if not self.started:
            self.log("TASK_STARTED")
            self.started = True
        if self.state == "PENDING":
            self.state = "RUNNING"

    def _finish(self, state: str) -> None:
        self.state = state
        self.log(f"TASK_{state}")

    def _end(self, end: End) -> bool:
        """Record how an attempt has ended; say whether that is the end of the task."""
        step, ending = self.steps[end.step_id], end.ending
        silent = ending in (Ending.SKIP, Ending.DECLINED) or end.announced
        if step.why is Why.NEW and not silent:
            self.log("STEP_STARTED", step.step_id, step.attempt)
        step.session = None
        if ending is Ending.ITEMS:
            ending = self._expand(step, end.items)
        if ending is Ending.STEPS:
            self._add(end.nodes, step.step_id)
            self._wait(step, "steps", "STEP_EXPANDED")
        elif ending is Ending.WAIT:
            self._wait(step, step.node.waits, "STEP_WAITING")
        elif ending is Ending.DECLINED:
            self._wait(step, "worker", "STEP_WAITING")
        elif ending is Ending.SUCCESS:
            step.state, step.output = "SUCCEEDED", end.output
            self.log("STEP_SUCCEEDED", step.step_id, step.attempt)
        elif ending is Ending.SKIP:
            step.state = "SKIPPED"
            self.log("STEP_SKIPPED", step.step_id, step.attempt)
        elif ending is Ending.FAILURE and step.failures + 1 < MAX_ATTEMPTS:
            self._wait(step, "retry", "STEP_RETRYING")
            step.failures, step.attempt = step.failures + 1, step.attempt + 1
        elif ending is not Ending.ITEMS:
            step.state, step.failures = "FAILED", step.failures + 1
            self.log("STEP_FAILED", step.step_id, step.attempt)
        return step.state == "FAILED" and not self._tolerates(step)

    def _expand(self, step: Step, count: int) -> Ending:
        """Start the items, unless there are none, or too few; say how the step ends then."""
        node = step.node
        if count < least_of(node.items_join, node.items_at_least, 0):
            return Ending.PERMANENT_FAILURE
        if count == 0:
            return Ending.SUCCESS
        for index in range(count):
            step_id = f"{step.step_id}[{index}]"
            self.steps[step_id] = Step(
                step_id, step.ordinal, node, step.scope, item=index, state="BLOCKED"
            )
        self._wait(step, "items", "STEP_EXPANDED")
        return Ending.ITEMS

    def _add(self, nodes: Sequence[Node], scope: str) -> None:
        for ordinal, node in enumerate(nodes):
            step_id = path_of(scope, node.name)
            # A step with one dependency gets its row when that has ended.
            state = "ABSENT" if len(node.depends_on) == 1 else "BLOCKED"
            self.steps[step_id] = Step(step_id, ordinal, node, scope, state=state)

    def _wait(self, step: Step, waits_for: str, event: str) -> None:
        step.state, step.waits_for = "WAITING", waits_for
        self.log(event, step.step_id, step.attempt)

    def _follow(self) -> None:
        """Start whatever can start by now."""
        for step in list(self.steps.values()):
            if step.waits_for in ("items", "steps") and self._children_are_over(step):
                self._fire(step, Why.CAME)
            elif step.item is not None:
                if not step.fired and self._has_a_lane(step):
                    self._fire(step, Why.NEW)
            elif step.state in ("ABSENT", "BLOCKED") and not step.fired:
                satisfied = self._satisfied(step)
                if satisfied is not None:
                    self._fire(step, Why.NEW if satisfied else Why.UNSATISFIED)

    def _satisfied(self, step: Step) -> bool | None:
        """Whether a step's join is satisfied; None while that is open."""
        deps = self.dependencies(step)
        over = [dep for dep in deps if self._is_over(dep)]
        succeeded = sum(dep.state == "SUCCEEDED" for dep in deps)
        return decide(step.node.join, step.node.at_least, len(deps), len(over), succeeded)

    def _children_are_over(self, step: Step) -> bool:
        if step.waits_for == "steps":
            return all(sink.state in ("SUCCEEDED", "SKIPPED") for sink in self._sinks(step.step_id))
        items = self.items_of(step)
        over = sum(self._is_over(item) for item in items)
        succeeded = sum(item.state == "SUCCEEDED" for item in items)
        node = step.node
        decided = decide(node.items_join, node.items_at_least, len(items), over, succeeded)
        return decided is not None

    def _has_a_lane(self, item: Step) -> bool:
        """Whether an item may start beside those before it."""
        parent = self._parent(item)
        if parent.waits_for != "items" or not item.open:
            return False
        lanes, items = item.node.max_parallel, self.items_of(parent)
        return not lanes or sum(each.fired and not self._is_over(each) for each in items) < lanes

    def _is_over(self, step: Step) -> bool:
        """Whether what waits for a step need not wait any more: a retry cannot change it."""
        return step.state in ("SUCCEEDED", "SKIPPED") or (
            step.state == "FAILED" and self._tolerates(step)
        )

    def _tolerates(self, step: Step) -> bool:
        """Whether a task goes on although this step has failed."""
        if step.item is not None:
            return step.node.items_join is not Join.ALL
        followers = self._followers(step)
        return bool(followers) and all(each.node.join is not Join.ALL for each in followers)

    def _followers(self, step: Step) -> list[Step]:
        return [
            each
            for each in self.steps.values()
            if each.scope == step.scope
            and each.item is None
            and step.node.name in each.node.depends_on
        ]

    def _sinks(self, scope: str) -> list[Step]:
        return [
            step
            for step in self.steps.values()
            if step.scope == scope and step.item is None and not self._followers(step)
        ]

    def _reason(self, step: Step) -> Why:
        """Why a step that has failed is tried again."""
        if step.item is None and self._satisfied(step) is False:
            return Why.UNSATISFIED
        return Why.CAME if any(self._descendants(step)) else Why.NEW

    def _reason_to_wake(self, step: Step) -> Why:
        if step.waits_for == "worker":
            return step.why
        return self._reason(step) if step.waits_for == "retry" else Why.CAME

    def _fire(self, step: Step, why: Why) -> None:
        step.fired, step.why, step.session, step.waits_for = True, why, None, ""
        step.state = "READY" if self.live else "BLOCKED"
        if self.live:
            self.became_ready.add((step.step_id, step.attempt))

    def _hold(self) -> None:
        for step in self.steps.values():
            if step.state == "READY":
                step.state = "BLOCKED"

    def _release(self) -> None:
        for step in self.steps.values():
            if step.state == "BLOCKED" and step.fired:
                self._fire(step, step.why)

    def _hand_out_signals(self) -> None:
        waiting = [step for step in self.steps.values() if step.waits_for.startswith("signal:")]
        waiting.sort(
            key=lambda each: (each.ordinal, -1 if each.item is None else each.item, each.step_id)
        )
        for step in waiting[: len(self.signals)]:
            self.signals.pop(0)
            self._fire(step, Why.CAME)

    def _cancel_what_is_left_over(self) -> None:
        for step in list(self.steps.values()):
            if step.state in ("SUCCEEDED", "FAILED"):
                self._cancel(self._descendants(step))
        if self.state == "SUCCEEDED":
            self._cancel(self.steps.values())

    def _descendants(self, step: Step) -> Iterator[Step]:
        for each in self.steps.values():
            if each.step_id.startswith((f"{step.step_id}[", f"{step.step_id}/")):
                yield each

    def _cancel(self, steps: Any) -> None:
        for step in steps:
            if step.open and step.state != "ABSENT":
                step.state, step.session, step.waits_for = "CANCELLED", None, ""
                self.became_ready.discard((step.step_id, step.attempt))
