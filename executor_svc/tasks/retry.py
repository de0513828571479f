"""Which steps of a failed task must run again so that a retry gets anywhere. Pure.

A step that failed by itself simply runs again. One that failed because too few of those
that it waits for succeeded would only fail again: they run again, and it counts them anew.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from executor_svc.engine.records import Phase, StepState
from executor_svc.graphs.graph import Graph, JoinMode, Step

ENDED_WELL = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


@dataclass(frozen=True, slots=True)
class Left:
    """A step of a task that has failed, as it was left.

    Attributes:
        scope: the step that added it; empty for one of the task's own graph.
        added_graph: hash of the graph that it has added itself.
        tolerated: whether it has FAILED without failing the task.
        needs, open: as in the record, how many must succeed, or have not ended.
        started: whether an attempt of it has begun.
    """

    step_id: str
    ordinal: int
    item: int | None
    items: int | None
    scope: str
    added_graph: bytes | None
    state: StepState
    tolerated: bool
    needs: int
    open: int
    phase: Phase
    started: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """A step that begins anew: BLOCKED, and held if it needs nothing; or WAITING.

    Attributes:
        waits_for: `items` or `steps`, of a step that is WAITING for them.
        released: how many items were let go, where that is bounded.
    """

    step_id: str
    needs: int = 0
    open: int = 0
    phase: Phase = Phase.NEW
    waits_for: str | None = None
    released: int | None = None


def plan_retry(
    graph: Graph, added: Mapping[bytes, Graph], steps: Sequence[Left]
) -> Sequence[Reset]:
    """Decide which steps of a task begin anew, besides those that failed by themselves.

    Args:
        graph: the task's own graph.
        added: graphs that its steps have added, by hash.
        steps: all its steps.
    """
    plan = _Plan(graph, added, steps)
    for step in steps:
        if step.state is StepState.FAILED and not step.tolerated:
            plan.run_again(step)
    plan.count_anew()
    return list(plan.resets.values())


class _Plan:
    """What was decided so far."""

    def __init__(self, graph: Graph, added: Mapping[bytes, Graph], steps: Sequence[Left]) -> None:
        self.resets: dict[str, Reset] = {}
        self._again: dict[str, Left] = {}
        self._steps = {step.step_id: step for step in steps}
        self._items: dict[str, list[Left]] = defaultdict(list)
        self._added: dict[str, list[Left]] = defaultdict(list)
        for step in steps:
            if step.item is not None:
                self._items[step.step_id.rpartition("[")[0]].append(step)
            else:
                self._added[step.scope].append(step)
        self._graphs = {
            step.step_id: added[step.added_graph]
            for step in steps
            if step.added_graph is not None and step.added_graph in added
        }
        self._graphs[""] = graph

    def run_again(self, left: Left) -> None:
        """Have a step that has failed run again, with what it takes to succeed."""
        if left.step_id in self._again or left.scope not in self._graphs:
            return
        self._again[left.step_id] = left
        if left.phase is Phase.UNSATISFIED:
            for dependency in self._dependencies(left):
                if dependency.state is StepState.FAILED:
                    self.run_again(dependency)
        elif left.items is None or not self._refill(left, self._missing(left)):
            phase = Phase.NEW if left.items is None else Phase.CAME
            self.resets[left.step_id] = Reset(left.step_id, phase=phase)

    def count_anew(self) -> None:
        """Have the joins that count what runs again wait for it."""
        for left in list(self._again.values()):
            if left.phase is Phase.UNSATISFIED:
                self._count(left)
            if left.item is None:
                for successor in self._successors(left):
                    self._count(successor)

    def _missing(self, left: Left) -> Sequence[Left]:
        """Return the items that are to run again, or the cancelled steps of those it added."""
        if left.added_graph is not None:
            return [step for step in self._added[left.step_id] if step.state is StepState.CANCELLED]
        wanted = {StepState.CANCELLED, StepState.FAILED}
        if self._step(left).items_join.mode is JoinMode.ALL_DONE:
            wanted.remove(StepState.FAILED)
        items = [step for step in self._items[left.step_id] if step.state in wanted]
        return sorted(items, key=lambda step: step.item or 0)

    def _refill(self, left: Left, missing: Sequence[Left]) -> bool:
        """Have a step wait for what it lacks of its items or added steps; False for nothing."""
        if not missing:
            return False
        if left.added_graph is not None:
            return self._refill_added(left, missing)
        step = self._step(left)
        over = [each for each in self._items[left.step_id] if each not in missing]
        counted = sum(
            step.items_join.counts(succeeded=each.state is StepState.SUCCEEDED) for each in over
        )
        needs = step.items_join.needs(left.items or 0) - counted
        if needs <= 0:
            return False
        # What waits for steps that it has added holds no worker, and goes on at once.
        lanes = [each for each in missing if each.items is None]
        let_go = lanes[: step.max_parallel] if step.max_parallel else lanes
        for each in missing:
            self._again[each.step_id] = each
            if each.items is not None:
                self._restore(each)
            else:
                held = int(each not in let_go)
                self.resets[each.step_id] = Reset(each.step_id, held, held)
        last = (let_go[-1].item or 0) + 1 if len(let_go) < len(lanes) else left.items
        self.resets[left.step_id] = Reset(
            left.step_id, needs, len(missing), waits_for="items", released=last
        )
        return True

    def _refill_added(self, left: Left, missing: Sequence[Left]) -> bool:
        sinks = self._graphs[left.step_id].sinks if left.step_id in self._graphs else ()
        states = [self._state(f"{left.step_id}/{sink.name}") for sink in sinks]
        lacks = sum(state not in ENDED_WELL for state in states)
        if lacks:
            for each in missing:
                self._restore(each)
            self.resets[left.step_id] = Reset(left.step_id, lacks, lacks, waits_for="steps")
        return bool(lacks)

    def _restore(self, left: Left) -> None:
        """Bring a step back that was cancelled with the one that has added it."""
        if left.items is not None and self._refill(left, self._missing(left)):
            return
        if left.items is None and left.needs + left.open > 0:
            self.resets[left.step_id] = Reset(left.step_id, left.needs, left.open)
            return
        phase = Phase.UNSATISFIED if left.phase is Phase.UNSATISFIED else Phase.NEW
        self.resets[left.step_id] = Reset(
            left.step_id, phase=phase if left.items is None else Phase.CAME
        )

    def _count(self, left: Left) -> None:
        """Have a join count what it depends on anew, unless it has begun."""
        again = left.step_id in self._again
        if not again and (left.state is not StepState.BLOCKED or left.started):
            return
        if again and left.phase is not Phase.UNSATISFIED:
            return
        join = self._step(left).join
        total = len(self._step(left).depends_on)
        over = [step.state for step in self._dependencies(left) if self._is_over(step)]
        counted = sum(join.counts(succeeded=state is StepState.SUCCEEDED) for state in over)
        needs, still = max(0, join.needs(total) - counted), total - len(over)
        if 0 < needs <= still:
            self.resets[left.step_id] = Reset(left.step_id, needs, still)
        else:
            phase = Phase.UNSATISFIED if needs else Phase.NEW
            self.resets[left.step_id] = Reset(left.step_id, phase=phase)

    def _is_over(self, left: Left) -> bool:
        if left.step_id in self._again:
            return False
        return left.state in ENDED_WELL or (left.state is StepState.FAILED and left.tolerated)

    def _step(self, left: Left) -> Step:
        return self._graphs[left.scope].steps[left.ordinal]

    def _state(self, step_id: str) -> StepState | None:
        return self._steps[step_id].state if step_id in self._steps else None

    def _dependencies(self, left: Left) -> Iterator[Left]:
        return self._named(left.scope, self._step(left).depends_on)

    def _successors(self, left: Left) -> Iterator[Left]:
        graph = self._graphs[left.scope]
        names = [graph.steps[ordinal].name for ordinal in self._step(left).successors]
        return self._named(left.scope, names)

    def _named(self, scope: str, names: Sequence[str]) -> Iterator[Left]:
        """Yield those of some steps of a graph that have a row."""
        for name in names:
            step_id = f"{scope}/{name}" if scope else name
            if step_id in self._steps:
                yield self._steps[step_id]
