"""What a forked task keeps of the task that it is made from. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from executor_svc.engine.records import NewStep, StepRecord, StepState
from executor_svc.engine.state_machine import UNDO_MARK
from executor_svc.graphs.graph import Graph, Step

ENDED_WELL = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


@dataclass(frozen=True, slots=True)
class Fork:
    """How a forked task begins.

    Attributes:
        kept: steps of the graph whose rows it keeps, with their items and what they added.
        steps: rows of steps that run anew. One that needs more than is open cannot have
            its join satisfied any more; it is for a worker to say what becomes of it.
        open_sinks: steps without successor that have not ended.
        compensates: whether it keeps steps that can be undone and were added at run time.
    """

    kept: Sequence[str]
    steps: Sequence[NewStep]
    open_sinks: int
    compensates: bool = False


def plan_fork(
    graph: Graph,
    records: Sequence[StepRecord],
    from_step: str,
    *,
    priority: int,
    added: Mapping[bytes, Graph] = MappingProxyType({}),
) -> Fork:
    """Decide which steps of a task a fork of it keeps.

    What runs anew is the chosen step with all that depends on it, whatever had not ended,
    and, of a task that was compensated, what was undone with all that depends on it.

    Args:
        graph: the task's graph.
        records: its steps.
        from_step: name of a step of the graph.
        priority: of the new task.
        added: the graphs that its steps have added, by hash.
    """
    states = {record.step_id: record for record in records if not record.scope}
    chosen = {from_step}
    adders = {_root(record.step_id) for record in records if _can_be_undone(record, added)}
    if any(record.step_id.startswith(UNDO_MARK) for record in records):
        chosen |= {step.name for step in graph.steps if step.compensation is not None} | adders
    anew = _with_dependents(graph, chosen)
    kept: dict[str, StepState] = {}
    for step in _in_order(graph):
        record = states.get(step.name)
        if step.name not in anew and record is not None and _stays(step, record, kept):
            kept[step.name] = record.state
    return Fork(
        kept=[step.name for step in graph.steps if step.name in kept],
        steps=[
            _new_step(step, kept, priority)
            for step in graph.steps
            if step.name not in kept and _has_row(step, kept)
        ],
        open_sinks=sum(kept.get(step.name) not in ENDED_WELL for step in graph.sinks),
        compensates=not adders.isdisjoint(kept),
    )


def _can_be_undone(record: StepRecord, added: Mapping[bytes, Graph]) -> bool:
    """Whether a step was added at run time and has a compensation."""
    if record.graph_hash is None or record.step_id.startswith(UNDO_MARK):
        return False
    return added[record.graph_hash].steps[record.ordinal].compensation is not None


def _root(step_id: str) -> str:
    """Name of the step of the task's own graph that has the step below it."""
    return step_id.partition("/")[0].partition("[")[0]


def _with_dependents(graph: Graph, names: Collection[str]) -> set[str]:
    found = set(names)
    stack = [graph.by_name[name] for name in names]
    while stack:
        for ordinal in stack.pop().successors:
            successor = graph.steps[ordinal]
            if successor.name not in found:
                found.add(successor.name)
                stack.append(successor)
    return found


def _in_order(graph: Graph) -> Sequence[Step]:
    """Return the steps so that each one follows all that it depends on."""
    open_dependencies = [len(step.depends_on) for step in graph.steps]
    ordered = [step for step in graph.steps if not step.depends_on]
    for step in ordered:
        for ordinal in step.successors:
            open_dependencies[ordinal] -= 1
            if not open_dependencies[ordinal]:
                ordered.append(graph.steps[ordinal])
    return ordered


def _stays(step: Step, record: StepRecord, kept: Mapping[str, StepState]) -> bool:
    if not step.is_join and not all(name in kept for name in step.depends_on):
        # When that one ends, this one begins.
        return False
    tolerated = record.state is StepState.FAILED and step.tolerated
    return record.state in ENDED_WELL or tolerated


def _has_row(step: Step, kept: Mapping[str, StepState]) -> bool:
    """Whether a step that runs anew has a row from the start: it can start, or is a join."""
    return step.is_join or all(name in kept for name in step.depends_on)


def _new_step(step: Step, kept: Mapping[str, StepState], priority: int) -> NewStep:
    endings = [kept[name] for name in step.depends_on if name in kept]
    counted = sum(step.join.counts(succeeded=state is StepState.SUCCEEDED) for state in endings)
    needs = max(0, step.join.needs(len(step.depends_on)) - counted)
    return NewStep(
        step.name,
        step.ordinal,
        needs=needs,
        # Once it has what it needs, it waits for nothing else.
        open=len(step.depends_on) - len(endings) if needs else 0,
        queue=step.queue,
        priority=step.priority or priority,
        lifetime=step.lifetime,
    )
