"""All that is wrong with a graph, found with the very rules that accept graphs. Pure.

`compile_graph` stops at the first problem. Here the field it names is put right in a copy,
and the copy is checked again: first a skeleton of the graph, which has nothing but names
and dependencies, then each step alone, its dependencies replaced by harmless ones.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from executor_svc.graphs.compile import MAX_DEPENDENCIES, GraphLimits, compile_graph
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError

MAX_PROBLEMS = 50

# The name under which the graph and the copies are checked.
_FIELD = "graph"
_STEP = re.compile(rf"{_FIELD}\.steps\[(?P<ordinal>\d+)\](?:\.(?P<field>\w+))?")
_HARMLESS = graph_pb2.PythonStep(function="harmless")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a graph."""

    field: str
    reason: Reason
    description: str


def problems_of(message: graph_pb2.Graph, *, limits: GraphLimits) -> list[Problem]:
    """Return what is wrong with a graph, in the order of its steps; at most MAX_PROBLEMS."""
    try:
        compile_graph(message, limits=limits, field=_FIELD)
    except StepwireError as error:
        first = _problems(error)
    else:
        return []
    # A dict, since it keeps the order and drops what both checks have found.
    found = dict.fromkeys(first)
    if not any(problem.field in (_FIELD, f"{_FIELD}.steps") for problem in first) or (
        first[0].reason is Reason.GRAPH_CYCLE
    ):
        found.update(dict.fromkeys(islice(_skeleton_problems(message, limits), MAX_PROBLEMS)))
        found.update(dict.fromkeys(islice(_step_problems(message, limits), MAX_PROBLEMS)))
    return sorted(found, key=_place)[:MAX_PROBLEMS]


def _problems(error: StepwireError) -> list[Problem]:
    if not error.faults:
        return [Problem(error.metadata.get("field", _FIELD), error.reason, error.message)]
    return [Problem(fault.field, error.reason, fault.description) for fault in error.faults]


def _place(problem: Problem) -> int:
    """Position of the step concerned; -1 for the graph as a whole."""
    match = _STEP.match(problem.field)
    return int(match["ordinal"]) if match else -1


def _skeleton_problems(message: graph_pb2.Graph, limits: GraphLimits) -> Iterator[Problem]:
    """Yield what is wrong with the graph's own fields, names and dependencies."""
    skeleton = graph_pb2.Graph()
    skeleton.CopyFrom(message)
    skeleton.ClearField("steps")
    for step in message.steps:
        skeleton.steps.add(name=step.name, depends_on=step.depends_on, python=_HARMLESS)
    for _ in range(MAX_PROBLEMS):
        try:
            compile_graph(skeleton, limits=limits, field=_FIELD)
        except StepwireError as error:
            found = _problems(error)
            yield from found
            if not _mend_skeleton(skeleton, error, found[0]):
                return
        else:
            return


def _mend_skeleton(skeleton: graph_pb2.Graph, error: StepwireError, problem: Problem) -> bool:
    """Put right what `error` says; False if it is not known how."""
    if error.reason is Reason.GRAPH_CYCLE:
        return _break_cycle(skeleton, error.metadata.get("steps", "").split(" -> "))
    match = _STEP.match(problem.field)
    if match is None:
        field = problem.field.removeprefix(f"{_FIELD}.").partition(".")[0]
        known = field != "steps" and field in skeleton.DESCRIPTOR.fields_by_name
        if known:
            skeleton.ClearField(field)  # type: ignore[arg-type]
        return known
    step = skeleton.steps[int(match["ordinal"])]
    if match["field"] == "name":
        _rename(skeleton, int(match["ordinal"]))
    elif error.reason is Reason.DEPENDENCY_MISSING:
        # The error may carry only the beginning of a long name.
        missing = error.metadata.get("dependency", "")
        kept = [name for name in step.depends_on if not name.startswith(missing)]
        if len(kept) == len(step.depends_on):
            return False
        step.depends_on[:] = kept
    else:
        _mend_step(step, match["field"])
    return True


def _rename(skeleton: graph_pb2.Graph, ordinal: int) -> None:
    """Give a step a name that no other has, also where others depend on it."""
    step = skeleton.steps[ordinal]
    old, taken = step.name, {each.name for each in skeleton.steps}
    unique = sum(each.name == old for each in skeleton.steps) == 1
    step.name = _free_name(taken)
    for each in skeleton.steps if unique else ():
        each.depends_on[:] = [step.name if name == old else name for name in each.depends_on]


def _break_cycle(skeleton: graph_pb2.Graph, names: list[str]) -> bool:
    steps = {step.name: step for step in skeleton.steps}
    for one, other in pairwise(names):
        for step, dependency in ((one, other), (other, one)):
            if step in steps and dependency in steps[step].depends_on:
                steps[step].depends_on.remove(dependency)
                return True
    return False


def _step_problems(message: graph_pb2.Graph, limits: GraphLimits) -> Iterator[Problem]:
    """Yield what is wrong with each step by itself."""
    for ordinal, step in enumerate(message.steps):
        alone = graph_pb2.Graph(steps=[step])
        for dependency in dict.fromkeys(step.depends_on):
            alone.steps.add(name=dependency, python=_HARMLESS)
        for problem in _problems_alone(alone, limits):
            field = problem.field.replace(f"{_FIELD}.steps[0]", f"{_FIELD}.steps[{ordinal}]", 1)
            yield Problem(field, problem.reason, problem.description)


def _problems_alone(alone: graph_pb2.Graph, limits: GraphLimits) -> Iterator[Problem]:
    """Yield what is wrong with the first step of a graph whose others are harmless."""
    step, mended = alone.steps[0], set[str]()
    while True:
        try:
            compile_graph(alone, limits=limits, field=_FIELD)
        except StepwireError as error:
            found = _problems(error)
        else:
            return
        match = _STEP.match(found[0].field)
        if match is None or match["ordinal"] != "0":
            # It is not the step's own: the skeleton has told it.
            return
        yield from found
        field = match["field"] or ""
        if field in mended:
            return
        mended.add(field)
        _mend_step(step, field)


def _mend_step(step: graph_pb2.Step, field: str) -> None:
    """Give a field of a step a value that no rule minds."""
    known = step.DESCRIPTOR.fields_by_name.get(field)
    if known is None or known.containing_oneof is not None:
        step.python.CopyFrom(_HARMLESS)
    elif field == "for_each":
        # Emptied, it would hide `item` and `index` from the other expressions.
        step.for_each = "[]"
    elif field == "name":
        step.name = _free_name(set(step.depends_on))
    elif field == "depends_on":
        step.depends_on[:] = list(dict.fromkeys(step.depends_on))[:MAX_DEPENDENCIES]
    else:
        step.ClearField(field)  # type: ignore[arg-type]


def _free_name(taken: set[str]) -> str:
    return next(name for number in range(len(taken) + 1) if (name := f"x{number}") not in taken)
