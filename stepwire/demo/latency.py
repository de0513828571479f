"""How long steps took, by kind: from the record. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the completed steps of one kind took, from an attempt's start to its commit.

    Attributes:
        kind: The kind, such as "embed".
        steps: Number of steps.
        p50_seconds: Half of them took at most this.
        p99_seconds: 99 of 100 took at most this.
    """

    kind: str
    steps: int
    p50_seconds: float
    p99_seconds: float


def step_kinds(graph: Graph) -> dict[str, str]:
    """Returns the kind of each step of a graph by the step's name."""
    return {step.name: step.WhichOneof("kind") or "" for step in graph.steps}


def latencies(tasks: Iterable[Task], kinds: Mapping[str, str]) -> list[Latency]:
    """Returns the latency of each kind that occurs, by name.

    A `for_each` step counts by its items, not as a whole.

    Args:
        tasks: Tasks with their steps.
        kinds: The kind of each step by the step's name.
    """
    spans: dict[str, list[float]] = {}
    for task in tasks:
        expanded = {_name(step) for step in task.steps if step.step_id != _name(step)}
        for step in task.steps:
            whole = step.step_id in expanded
            if step.state == StepState.STEP_STATE_SUCCEEDED and not whole:
                spans.setdefault(kinds[_name(step)], []).append(_seconds(step))
    return [
        Latency(
            kind=kind,
            steps=len(seconds),
            p50_seconds=percentile(seconds, 50),
            p99_seconds=percentile(seconds, 99),
        )
        for kind, seconds in sorted(spans.items())
    ]


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest of the values that at least `percent` of them do not exceed.

    Args:
        values: At least one.
        percent: More than 0, at most 100.
    """
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _name(step: StepRun) -> str:
    return step.step_id.partition("[")[0]


def _seconds(step: StepRun) -> float:
    return (step.end_time.ToDatetime() - step.start_time.ToDatetime()).total_seconds()
