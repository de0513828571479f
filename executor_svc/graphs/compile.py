"""From a request's graph to a compiled one: every rule of graph.proto is checked here. Pure."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from executor_svc.graphs.compile_step import DEFAULT_QUEUE, compile_step
from executor_svc.graphs.durations import LONGEST_WAIT, span_of
from executor_svc.graphs.expressions import compile_expression
from executor_svc.graphs.graph import Concurrency, Graph, find_cycle
from executor_svc.graphs.waits import check_waits
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import FieldFault, Reason, StepwireError, field_invalid, payload_too_large

STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_DEPENDENCIES = 100
MAX_CONCURRENCY = 10_000
MAX_NESTED_GRAPHS = 4
SERVERS_KINDS = frozenset({"webhook"})


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """Limits that a graph must keep: the server's settings. No `queues` means any queue.

    `is_new` is false for a graph that was accepted before, or that the server makes itself: it
    runs, whatever users may ask for today.
    """

    max_steps: int
    max_bytes: int
    queues: Collection[str] | None
    max_dependencies: int = MAX_DEPENDENCIES
    is_new: bool = True


def canonical(message: graph_pb2.Graph) -> bytes:
    """Return the encoding by which equal graphs are known to be equal."""
    return message.SerializeToString(deterministic=True)


def hash_of(spec: bytes) -> bytes:
    """Return the hash by which a graph's canonical encoding is stored."""
    return hashlib.sha256(spec).digest()


def compile_graph(
    message: graph_pb2.Graph, *, limits: GraphLimits, field: str = "graph", depth: int = 0
) -> Graph:
    """Check a graph and compile it.

    Args:
        message: the graph.
        limits: what it must keep to.
        field: where it stands in the request, for errors.
        depth: how many graphs it stands in.

    Raises:
        StepwireError: FIELD_INVALID, PAYLOAD_TOO_LARGE, GRAPH_CYCLE, DEPENDENCY_MISSING,
            EXPRESSION_INVALID or STEP_KIND_UNKNOWN; each names the field.
    """
    spec = canonical(message)
    _check_size(message, spec, limits, field)
    places = _places(message, field)
    _check_dependencies(message, places, limits, field)
    _check_queues(message, limits, field)
    _check_subtasks(message, limits, field, depth)
    if limits.is_new:
        _check_kinds(message, field)
    successors: list[list[int]] = [[] for _ in message.steps]
    for ordinal, step in enumerate(message.steps):
        for dependency in step.depends_on:
            successors[places[dependency]].append(ordinal)
    steps = tuple(
        compile_step(
            step,
            ordinal=ordinal,
            successors=[(place, message.steps[place]) for place in successors[ordinal]],
            field=f"{field}.steps[{ordinal}]",
        )
        for ordinal, step in enumerate(message.steps)
    )
    concurrency, timeout = _concurrency(message, field), _timeout(message, field)
    if limits.is_new:
        check_waits(steps, timeout=timeout, field=field)
    return Graph(
        graph_hash=hash_of(spec),
        spec=spec,
        steps=steps,
        concurrency=concurrency,
        timeout=timeout,
        is_checked=limits.is_new,
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


def _places(message: graph_pb2.Graph, field: str) -> dict[str, int]:
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
    return places


def _check_dependencies(
    message: graph_pb2.Graph, places: dict[str, int], limits: GraphLimits, field: str
) -> None:
    for ordinal, step in enumerate(message.steps):
        at = f"{field}.steps[{ordinal}].depends_on"
        if len(step.depends_on) > limits.max_dependencies:
            raise field_invalid(
                at, f"{len(step.depends_on)} steps are more than {limits.max_dependencies}"
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


def _check_queues(message: graph_pb2.Graph, limits: GraphLimits, field: str) -> None:
    if limits.queues is None:
        return
    for ordinal, step in enumerate(message.steps):
        at = f"{field}.steps[{ordinal}]"
        named = [(f"{at}.queue", step.queue)]
        if step.HasField("compensation"):
            named.append((f"{at}.compensation.queue", step.compensation.queue))
        for where, queue in named:
            if (queue or DEFAULT_QUEUE) not in limits.queues:
                known = ", ".join(sorted(limits.queues))
                raise field_invalid(where, f"{queue[:80]!r} is not one of {known}")


def _check_kinds(message: graph_pb2.Graph, field: str) -> None:
    for ordinal, step in enumerate(message.steps):
        if step.WhichOneof("kind") in SERVERS_KINDS:
            at = f"{field}.steps[{ordinal}].{step.WhichOneof('kind')}"
            raise field_invalid(at, "is made by the server alone, for its subscriptions")


def _check_subtasks(message: graph_pb2.Graph, limits: GraphLimits, field: str, depth: int) -> None:
    for ordinal, step in enumerate(message.steps):
        if step.WhichOneof("kind") != "subtask" or not step.subtask.HasField("graph"):
            continue
        at = f"{field}.steps[{ordinal}].subtask.graph"
        if depth + 1 >= MAX_NESTED_GRAPHS:
            raise field_invalid(at, f"graphs are nested deeper than {MAX_NESTED_GRAPHS}")
        compile_graph(step.subtask.graph, limits=limits, field=at, depth=depth + 1)


def _concurrency(message: graph_pb2.Graph, field: str) -> Concurrency | None:
    if not message.HasField("concurrency"):
        return None
    at, wanted = f"{field}.concurrency", message.concurrency
    if not 0 <= wanted.max_running <= MAX_CONCURRENCY:
        raise field_invalid(f"{at}.max_running", f"must be from 0 to {MAX_CONCURRENCY}")
    if wanted.policy not in graph_pb2.ConcurrencyPolicy.values():
        raise field_invalid(f"{at}.policy", "is not a policy that this server knows")
    return Concurrency(
        key=compile_expression(wanted.key, field=f"{at}.key", variables={"input"}, steps=()),
        max_running=wanted.max_running or 1,
        policy=wanted.policy or graph_pb2.CONCURRENCY_POLICY_QUEUE,
    )


def _timeout(message: graph_pb2.Graph, field: str) -> timedelta | None:
    span = span_of(message.timeout, field=f"{field}.timeout")
    if not timedelta(0) <= span <= LONGEST_WAIT:
        raise field_invalid(f"{field}.timeout", f"must be from 0 to {LONGEST_WAIT.days} days")
    return span or None
