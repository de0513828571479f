"""What a task must come to: a reference model, as simple as can be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.intents import CANCELLED, FAILED, SKIPPED, SUCCEEDED, StepIntent, TaskIntent
from tests.chaos.values import digest

WELL = frozenset({SUCCEEDED})
# What an ANY join does not wait for may be cut off by the end of the task.
CUT_OFF = frozenset({SUCCEEDED, CANCELLED})


@dataclass(frozen=True, slots=True)
class Expected:
    """What the steps of a task that ends well come to, by their ids.

    Attributes:
        answers: what each gives, in which outputs are replaced by their digests.
        states: the states it may end in.
        functions: steps whose output is made by an execution of their own.
        needs: the steps before each, with the rule by which it waits for them.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    states: dict[str, frozenset[str]] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    needs: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)


def expected(intent: TaskIntent) -> Expected:
    """Work out what a task must come to."""
    found = Expected()
    _run(found, intent, intent.steps, prefix="")
    return found


def _run(found: Expected, intent: TaskIntent, steps: Sequence[StepIntent], *, prefix: str) -> Any:
    """Work out steps that stand in one graph; return the answer of the last one."""
    raced = {name for step in steps if step.join == "ANY" for name in step.depends_on}
    answer: Any = None
    for step in steps:
        step_id = prefix + step.name
        before = frozenset(prefix + name for name in step.depends_on)
        found.needs[step_id] = step.join, before
        skipped = [name for name in before if SKIPPED in found.states[name]]
        if not step.when or (skipped and step.join == "ALL"):
            found.states[step_id], answer = frozenset({SKIPPED}), None
        elif step.fails:
            found.states[step_id], answer = frozenset({FAILED}), None
        else:
            found.states[step_id] = CUT_OFF if step.name in raced else WELL
            answer = _answer(found, intent, step, prefix)
        found.answers[step_id] = answer
    return answer


def _answer(found: Expected, intent: TaskIntent, step: StepIntent, prefix: str) -> Any:
    step_id = prefix + step.name
    given = {name: found.answers[prefix + name] for name in step.depends_on}
    match step.kind:
        case "work" if step.items is not None:
            return [_item(found, f"{step_id}[{i}]", item) for i, item in enumerate(intent.items)]
        case "work":
            found.functions.add(step_id)
            return digest(step_id, {} if step.join == "ANY" else given)
        case "sleep":
            return given[step.depends_on[0]]
        case "signal":
            return intent.signal
        case "subtask":
            return _run(Expected(), intent, step.inner, prefix="")
        case "adds":
            return _run(found, intent, step.inner, prefix=f"{step_id}/")
    raise AssertionError(step.kind)


def _item(found: Expected, step_id: str, item: str) -> str:
    found.functions.add(step_id)
    found.states[step_id] = WELL
    found.answers[step_id] = digest(step_id, item)
    return digest(step_id, item)
