"""What the expressions of an attempt see, and what its step gets as input. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from executor_svc.engine.records import Attempt, StepState
from executor_svc.graphs.graph import Step
from stepwire.payload import NULL


class Memo(dict[str, bytes]):
    """Recorded outputs by step id, as JSON, that the steps which follow need not read again.

    Steps that run side by side may share one. Hence only what the record has: another
    attempt may have had another result, and what has not ended has none yet.
    """


def scope_of(attempt: Attempt, names: Collection[str], memo: Memo) -> dict[str, Any]:
    """Return what expressions see; the outputs of `names` are in the memo.

    Every attempt gets values of its own: a function may change what it is given.
    """
    scope: dict[str, Any] = {
        "input": orjson.loads(attempt.input.data),
        "steps": {name: orjson.loads(memo.get(attempt.sibling(name), NULL)) for name in names},
    }
    if attempt.item is not None:
        scope["item"] = orjson.loads(attempt.item_input or NULL)
        scope["index"] = attempt.item
    return scope


def states_of(step: Step, attempt: Attempt, endings: Mapping[str, StepState]) -> dict[str, str]:
    """Return how the dependencies of a step ended, by name."""
    return {
        name: str(endings.get(attempt.sibling(name), StepState.SKIPPED)) for name in step.depends_on
    }


def input_of(step: Step, attempt: Attempt, scope: Mapping[str, Any]) -> Any:
    """Return the step's input: what its expression gives, or the default of graph.proto.

    Raises:
        EvaluationError: the expression fails on what it sees.
    """
    if step.input is not None:
        return step.input.evaluate(scope)
    if attempt.item is not None:
        return scope["item"]
    if len(step.depends_on) == 1:
        return scope["steps"][step.depends_on[0]]
    return dict(scope["steps"]) if step.depends_on else scope["input"]
