"""From a request's graph to a compiled one: every rule of graph.proto is checked here. Pure."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from executor_svc.durations import span_of
from executor_svc.expressions import Expression, compile_expression
from executor_svc.graph import Graph, Step, find_cycle
from executor_svc.kinds import check_kind
from executor_svc.retry import compile_retry
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import FieldFault, Reason, StepwireError, field_invalid, payload_too_large

STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
DEFAULT_QUEUE = "default"
DEFAULT_TIMEOUT = timedelta(minutes=5)
MAX_TIMEOUT = timedelta(hours=24)
MAX_DEPENDENCIES = 100


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """Limits that a graph must keep: the server's settings. No `queues` means any queue."""

    max_steps: int
    max_bytes: int
    queues: Collection[str] | None


def canonical(message: graph_pb2.Graph) -> bytes:
    """Return the encoding by which equal graphs are known to be equal."""
    return message.SerializeToString(deterministic=True)


def hash_of(spec: bytes) -> bytes:
    """Return the hash by which a graph's canonical encoding is stored."""
    return hashlib.sha256(spec).digest()


def compile_graph(message: graph_pb2.Graph, *, limits: GraphLimits, field: str = "graph") -> Graph:
    """Check a graph and compile it.

    Raises:
        StepwireError: FIELD_INVALID, PAYLOAD_TOO_LARGE, GRAPH_CYCLE, DEPENDENCY_MISSING,
            EXPRESSION_INVALID or STEP_KIND_UNKNOWN; each names the field.
    """
    spec = canonical(message)
    _check_size(message, spec, limits, field)
    places: dict[str, int] = {}
    for ordinal, step in enumerate(message.steps):
        at = f"{field}.steps[{ordinal}].name"
        if not STEP_NAME.fullmatch(step.name):
            raise field_invalid(
                at,
                f"{step.name[:80]!r} must be a lower-case letter followed by at most 62"
                " lower-case letters, digits or underscores",
            )
        if step.name in places:
            raise field_invalid(at, f"{step.name!r} stands twice")
        places[step.name] = ordinal
    _check_dependencies(message, places, field)
    successors: list[list[int]] = [[] for _ in message.steps]
    for ordinal, step in enumerate(message.steps):
        for dependency in step.depends_on:
            successors[places[dependency]].append(ordinal)
    return Graph(
        graph_hash=hash_of(spec),
        spec=spec,
        steps=tuple(
            _compile_step(step, ordinal, tuple(successors[ordinal]), limits, field)
            for ordinal, step in enumerate(message.steps)
        ),
    )


def _check_size(message: graph_pb2.Graph, spec: bytes, limits: GraphLimits, field: str) -> None:
    if not message.steps:
        raise field_invalid(f"{field}.steps", "must have at least one step")
    if len(message.steps) > limits.max_steps:
        raise field_invalid(
            f"{field}.steps", f"{len(message.steps)} steps are more than {limits.max_steps}"
        )
    if len(spec) > limits.max_bytes:
        raise payload_too_large(field, size_bytes=len(spec), limit_bytes=limits.max_bytes)


def _check_dependencies(message: graph_pb2.Graph, places: dict[str, int], field: str) -> None:
    for ordinal, step in enumerate(message.steps):
        at = f"{field}.steps[{ordinal}].depends_on"
        if len(step.depends_on) > MAX_DEPENDENCIES:
            raise field_invalid(
                at, f"{len(step.depends_on)} steps are more than {MAX_DEPENDENCIES}"
            )
        if len(set(step.depends_on)) != len(step.depends_on):
            raise field_invalid(at, "names a step twice")
        for dependency in step.depends_on:
            if dependency not in places:
                raise StepwireError(
                    Reason.DEPENDENCY_MISSING,
                    f"{at}: step {step.name!r} depends on {dependency[:80]!r},"
                    " which the graph does not have",
                    metadata={"step": step.name, "dependency": dependency[:80]},
                    faults=[FieldFault(at, f"the graph has no step {dependency[:80]!r}")],
                )
    cycle = find_cycle({step.name: step.depends_on for step in message.steps})
    if cycle:
        text = " -> ".join(cycle)
        raise StepwireError(
            Reason.GRAPH_CYCLE,
            f"{field}.steps: the steps form a cycle: {text}",
            metadata={"steps": text},
            faults=[FieldFault(f"{field}.steps", f"the steps form a cycle: {text}")],
        )


def _compile_step(
    message: graph_pb2.Step,
    ordinal: int,
    successors: tuple[int, ...],
    limits: GraphLimits,
    field: str,
) -> Step:
    at = f"{field}.steps[{ordinal}]"
    kind = message.WhichOneof("kind")
    if kind is None:
        raise StepwireError(
            Reason.STEP_KIND_UNKNOWN,
            f"{at}: step {message.name!r} has no kind that this server knows",
            metadata={"step": message.name},
            faults=[FieldFault(at, "must have one of the step kinds")],
        )
    queue = message.queue or DEFAULT_QUEUE
    if limits.queues is not None and queue not in limits.queues:
        known = ", ".join(sorted(limits.queues))
        raise field_invalid(f"{at}.queue", f"{queue[:80]!r} is not one of {known}")
    timeout = span_of(message.timeout, field=f"{at}.timeout") or DEFAULT_TIMEOUT
    if not timedelta(0) < timeout <= MAX_TIMEOUT:
        raise field_invalid(f"{at}.timeout", "must be from 0 to 24 hours")
    steps = tuple(message.depends_on)
    for_each = None
    variables = {"input", "steps"}
    if message.for_each:
        for_each = compile_expression(
            message.for_each, field=f"{at}.for_each", variables=variables, steps=steps
        )
        variables |= {"item", "index"}
    input_ = None
    if message.input:
        input_ = compile_expression(
            message.input, field=f"{at}.input", variables=variables, steps=steps
        )
    spec = getattr(message, kind)

    def own(source: str, field: str) -> Expression:
        return compile_expression(source, field=field, variables=variables | {"value"}, steps=steps)

    return Step(
        ordinal=ordinal,
        name=message.name,
        kind=kind,
        spec=spec,
        queue=queue,
        retry=compile_retry(message.retry, field=f"{at}.retry"),
        timeout=timeout,
        depends_on=steps,
        for_each=for_each,
        input=input_,
        template=tuple(check_kind(kind, spec, field=f"{at}.{kind}", expression=own)),
        successors=successors,
    )
