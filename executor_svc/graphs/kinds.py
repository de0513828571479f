"""The rules of each kind of step: its fields, and the expressions among them. Pure."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from executor_svc.graphs.durations import LONGEST_WAIT, span_of
from executor_svc.graphs.expressions import Expression
from stepwire.errors import field_invalid

COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
URL_EXPRESSION = re.compile(r"\$\{([^}]*)\}")
SIGNAL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_FUNCTION_CHARACTERS = 200
MAX_MODEL_CHARACTERS = 200
MAX_PROJECT_CHARACTERS = 100
MAX_SEARCH_LIMIT = 1000
MAX_TEMPERATURE = 2

Compile = Callable[[str, str], Expression]
"""Compiles the expression found in a field, both given as texts."""


def check_kind(kind: str, spec: Any, *, field: str, expression: Compile) -> Iterator[Expression]:
    """Check a kind's own fields; yield its expressions in the order of their use.

    Raises:
        StepwireError: FIELD_INVALID or EXPRESSION_INVALID, naming the field.
    """
    check = _CHECKS.get(kind)
    if check is not None:
        yield from check(spec, field, expression)


def _python(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if not 1 <= len(spec.function) <= MAX_FUNCTION_CHARACTERS:
        raise field_invalid(
            f"{field}.function", f"must have 1 to {MAX_FUNCTION_CHARACTERS} characters"
        )
    yield from ()


def _transform(spec: Any, field: str, expression: Compile) -> Iterator[Expression]:
    yield expression(spec.expression, f"{field}.expression")


def _embed(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if len(spec.model) > MAX_MODEL_CHARACTERS:
        raise field_invalid(
            f"{field}.model", f"must have at most {MAX_MODEL_CHARACTERS} characters"
        )
    yield from ()


def _upsert(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if not COLLECTION_NAME.fullmatch(spec.collection):
        raise field_invalid(
            f"{field}.collection", f"{spec.collection[:80]!r} is not a collection's name"
        )
    yield from ()


def _search(spec: Any, field: str, expression: Compile) -> Iterator[Expression]:
    yield from _upsert(spec, field, expression)
    if not 0 <= spec.limit <= MAX_SEARCH_LIMIT:
        raise field_invalid(f"{field}.limit", f"must be from 0 to {MAX_SEARCH_LIMIT}")


def _model(spec: Any, field: str, expression: Compile) -> Iterator[Expression]:
    yield from _embed(spec, field, expression)
    if spec.max_output_tokens < 0:
        raise field_invalid(f"{field}.max_output_tokens", "must not be negative")
    if not 0 <= spec.temperature <= MAX_TEMPERATURE:
        raise field_invalid(f"{field}.temperature", f"must be from 0 to {MAX_TEMPERATURE}")
    # Written so that a NaN, which is on neither side of anything, is refused too.
    if not 0 <= spec.min_quality <= 1:
        raise field_invalid(f"{field}.min_quality", "must be from 0 to 1")
    if len(spec.project) > MAX_PROJECT_CHARACTERS or "\0" in spec.project:
        raise field_invalid(
            f"{field}.project", f"must have at most {MAX_PROJECT_CHARACTERS} characters"
        )
    if spec.HasField("json_schema") and not spec.json_schema.schema.fields:
        raise field_invalid(f"{field}.json_schema.schema", "is required")


def _http(spec: Any, field: str, expression: Compile) -> Iterator[Expression]:
    if spec.method and spec.method not in HTTP_METHODS:
        raise field_invalid(f"{field}.method", f"must be one of {', '.join(HTTP_METHODS)}")
    if not spec.url.startswith(("http://", "https://")):
        raise field_invalid(f"{field}.url", "must begin with http:// or https://")
    for name, value in spec.headers.fields.items():
        if value.WhichOneof("kind") != "string_value":
            raise field_invalid(f"{field}.headers[{name!r}]", "must be a text")
    for source in URL_EXPRESSION.findall(spec.url):
        yield expression(source, f"{field}.url")


def _sleep(spec: Any, field: str, expression: Compile) -> Iterator[Expression]:
    if bool(spec.until) == spec.HasField("duration"):
        raise field_invalid(field, "must have either duration or until")
    if spec.until:
        yield expression(spec.until, f"{field}.until")
    elif not timedelta(0) <= span_of(spec.duration, field=f"{field}.duration") <= LONGEST_WAIT:
        raise field_invalid(f"{field}.duration", f"must be from 0 to {LONGEST_WAIT.days} days")


def _wait_signal(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if not SIGNAL_NAME.fullmatch(spec.name):
        raise field_invalid(f"{field}.name", f"{spec.name[:80]!r} is not a signal's name")
    if not timedelta(0) <= span_of(spec.timeout, field=f"{field}.timeout") <= LONGEST_WAIT:
        raise field_invalid(f"{field}.timeout", f"must be from 0 to {LONGEST_WAIT.days} days")
    yield from ()


def _subtask(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if spec.HasField("graph") == spec.HasField("workflow"):
        raise field_invalid(field, "must have either graph or workflow")
    if spec.HasField("workflow") and not spec.workflow.name:
        raise field_invalid(f"{field}.workflow.name", "is required")
    yield from ()


def _webhook(spec: Any, field: str, _: Compile) -> Iterator[Expression]:
    if not spec.subscription_id:
        raise field_invalid(f"{field}.subscription_id", "is required")
    yield from ()


_CHECKS: dict[str, Callable[[Any, str, Compile], Iterator[Expression]]] = {
    "python": _python,
    "transform": _transform,
    "embed": _embed,
    "upsert": _upsert,
    "search": _search,
    "model": _model,
    "http": _http,
    "sleep": _sleep,
    "wait_signal": _wait_signal,
    "subtask": _subtask,
    "webhook": _webhook,
}
