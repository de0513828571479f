"""CEL expressions."""

import subprocess
import sys

import pytest

from executor_svc.graphs.expressions import EvaluationError, compile_expression
from stepwire.errors import Reason, StepwireError

VARIABLES = {"input", "steps", "item", "index", "value"}


def compiled(source, steps=("a", "b")):
    return compile_expression(source, field="f", variables=VARIABLES, steps=steps)


@pytest.mark.parametrize(
    ("source", "scope", "result"),
    [
        ("1 + 2", {}, 3),
        ("value * 2.0", {"value": 1.5}, 3.0),
        ("input.a.b[1]", {"input": {"a": {"b": [1, 2]}}}, 2),
        ("steps.a + steps.b", {"steps": {"a": "x", "b": "y"}}, "xy"),
        ("[1, 2, 3].filter(n, n > 1).map(n, n * 10)", {}, [20, 30]),
        ("{'k': [null, true]}", {}, {"k": [None, True]}),
        ("input.exists(x, x == 3) ? 'yes' : 'no'", {"input": [1, 3]}, "yes"),
        ("has(input.a) ? input.a : 'none'", {"input": {}}, "none"),
        ("size(input)", {"input": "ab"}, 2),
        ("'steps.missing'", {}, "steps.missing"),
        ("string(7) + 'th'", {}, "7th"),
        ("index", {"index": 4}, 4),
    ],
)
def test_evaluates(source, scope, result):
    assert compiled(source).evaluate(scope) == result


@pytest.mark.parametrize(
    "source",
    [
        "",
        "1 +",
        "unknown",
        "input.map(x, y)",
        "steps.c",
        "steps.a + steps.c",
        "import('os')",
        "value.open()",
        "x" * 4097,
    ],
)
def test_refuses(source):
    with pytest.raises(StepwireError) as caught:
        compiled(source)
    assert caught.value.reason == Reason.EXPRESSION_INVALID
    assert caught.value.metadata["field"] == "f"
    assert [fault.field for fault in caught.value.faults] == ["f"]


@pytest.mark.parametrize(
    ("source", "scope"),
    [
        ("input.missing", {"input": {}}),
        ("1 / value", {"value": 0}),
        ("value + 1", {"value": "text"}),
        ("input[3]", {"input": [1]}),
        ("b'bytes'", {}),
        ("duration('1s')", {}),
        ("[timestamp('2026-01-01T00:00:00Z')]", {}),
        ("{1: 2}", {}),
    ],
)
def test_fails_on_its_values(source, scope):
    with pytest.raises(EvaluationError):
        compiled(source).evaluate(scope)


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("1", frozenset()),
        ("steps.a", {"a"}),
        ("steps . a + steps.b", {"a", "b"}),
        ("input.steps.b", frozenset()),
        ("steps", None),
        ("steps['a']", None),
        ("'steps'", frozenset()),
    ],
)
def test_knows_which_steps_it_reads(source, steps):
    assert compiled(source).steps == steps


def test_the_library_comes_without_its_command_line():
    """Which would load toolkits for terminals into every worker."""
    code = (
        "import sys, executor_svc.graphs.expressions;"
        "assert not {'rich', 'prompt_toolkit'} & sys.modules.keys();"
        "import cel.cli; assert cel.cli.__file__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
