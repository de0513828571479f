"""CEL expressions of a graph: checked when a task is created, compiled once, evaluated often.

Pure. The language is https://cel.dev (google/cel-spec), through the package
`common-expression-language`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from executor_svc.graphs.cel_library import cel
from stepwire.errors import FieldFault, Reason, StepwireError

MAX_CHARACTERS = 4096

_STRING = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_MACRO_VARIABLE = re.compile(r"\.(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_STEP_FIELD = re.compile(r"(?<![\w.])steps\s*\.\s*([A-Za-z_]\w*)")
_STATE_FIELD = re.compile(r"(?<![\w.])states\s*\.\s*([A-Za-z_]\w*)")
_STEP_ANY = re.compile(r"(?<![\w.])steps\b(?!\s*\.\s*[A-Za-z_])")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*$")

# Functions of the CEL standard that the library has; an unknown one is refused when the
# task is created, not when the step runs.
FUNCTIONS = frozenset(
    {
        *("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type"),
        *("uint", "has", "all", "exists", "exists_one", "filter", "map", "max", "min", "size"),
        *("contains", "endsWith", "matches", "startsWith"),
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear"),
        *("getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    }
)


class EvaluationError(Exception):
    """An expression failed on the values it was given."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        source: its text.
        steps: names of the steps whose outputs it reads; None means possibly all that it
            may see.
        reads_states: whether it asks how steps ended.
    """

    source: str
    steps: frozenset[str] | None
    reads_states: bool
    program: Any

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Return the expression's value as a JSON value.

        Raises:
            EvaluationError: a name or field is missing, types do not fit, or the result is
                not a JSON value.
        """
        try:
            return _json(self.program.execute(scope))
        except EvaluationError:
            raise
        except Exception as error:  # the library raises many built-in types
            raise EvaluationError(f"{self.source!r}: {error}") from error


def compile_expression(
    source: str, *, field: str, variables: Collection[str], steps: Collection[str]
) -> Expression:
    """Compile `source`, found in the request's `field`.

    Args:
        source: the expression's text.
        field: path of the field it stands in, for errors.
        variables: names that it may use.
        steps: names that may follow `steps.`.

    Raises:
        StepwireError: EXPRESSION_INVALID, if it is too long, does not compile, or names
            something that it cannot see.
    """
    if len(source) > MAX_CHARACTERS:
        raise _invalid(field, source, f"is longer than {MAX_CHARACTERS} characters")
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise _invalid(field, source, f"does not compile: {error}") from None
    bare = _STRING.sub('""', source)
    unknown = set(program.variables()) - set(variables) - set(_MACRO_VARIABLE.findall(bare))
    if unknown:
        seen = ", ".join(sorted(variables))
        raise _invalid(field, source, f"uses the unknown name {min(unknown)!r}; it can see {seen}")
    functions = {name for name in program.functions() if _IDENTIFIER.match(name)}
    if unknown := functions - FUNCTIONS:
        raise _invalid(field, source, f"calls the unknown function {min(unknown)!r}")
    named = frozenset(_STEP_FIELD.findall(bare))
    if missing := named - set(steps):
        raise _invalid(
            field, source, f"reads steps.{min(missing)}, which is not in the step's depends_on"
        )
    if missing := frozenset(_STATE_FIELD.findall(bare)) - set(steps):
        raise _invalid(
            field, source, f"reads states.{min(missing)}, which is not in the step's depends_on"
        )
    return Expression(
        source=source,
        steps=None if _STEP_ANY.search(bare) else named,
        reads_states="states" in program.variables(),
        program=program,
    )


def _invalid(field: str, source: str, what: str) -> StepwireError:
    return StepwireError(
        Reason.EXPRESSION_INVALID,
        f"{field}: the expression {what}",
        metadata={"field": field, "expression": source[:200]},
        faults=[FieldFault(field, f"the expression {what}")],
    )


def _json(value: Any) -> Any:
    """Return `value` if it is a JSON value; bytes and times have no natural JSON form."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EvaluationError("the result has a key that is not a text")
        return {key: _json(item) for key, item in value.items()}
    raise EvaluationError(
        f"the result holds a {type(value).__name__}, which is not a JSON value;"
        " convert it with string(…)"
    )
