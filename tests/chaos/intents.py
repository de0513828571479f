"""What a run asks for: tasks with known answers, drawn from a seed. Pure."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwire.api.executor.v1 import graph_pb2
from tests.chaos.values import digest

SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"
FAST_RETRY = {
    "initial_backoff": {"nanos": 20_000_000},
    "max_backoff": {"nanos": 100_000_000},
}


@dataclass(frozen=True, slots=True)
class StepIntent:
    """A step to run.

    Attributes:
        depends_on: names of the steps before it.
        do: what its function is to do; see `chaos_functions`.
        attempts: the most attempts of its retry policy.
        items: number of items of a for_each step; None for a plain one.
        in_thread: whether its function is an ordinary one.
    """

    name: str
    depends_on: tuple[str, ...] = ()
    do: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 5
    items: int | None = None
    in_thread: bool = False

    def message(self) -> graph_pb2.Step:
        """The step as the API takes it."""
        function = "chaos.work_in_thread" if self.in_thread else "chaos.work"
        given = "{" + ", ".join(f'"{name}": steps.{name}' for name in self.depends_on) + "}"
        source = "item" if self.items is not None else given
        return graph_pb2.Step(
            name=self.name,
            depends_on=self.depends_on,
            for_each="input.items" if self.items is not None else "",
            input=f'{{"in": {source}, "do": {json.dumps(dict(self.do))}}}',
            retry=graph_pb2.RetryPolicy(max_attempts=self.attempts, **FAST_RETRY),
            python=graph_pb2.PythonStep(function=function),
        )


@dataclass(frozen=True, slots=True)
class TaskIntent:
    """A task to run.

    Attributes:
        number: its number in the run; its request_id is made of it.
        steps: its steps, each behind those it depends on.
        items: the items of its for_each steps.
        ends: the states that it may end in.
        senders: how many send the same request at once.
        cancel_after: seconds after which it is cancelled; None if it is not.
        retried: whether it is retried each time it has failed.
        watched: whether somebody watches it from the start.
    """

    number: int
    steps: tuple[StepIntent, ...]
    items: tuple[str, ...] = ()
    ends: tuple[str, ...] = (SUCCEEDED,)
    senders: int = 1
    cancel_after: float | None = None
    retried: bool = False
    watched: bool = False

    @property
    def request_id(self) -> str:
        """The idempotency key under which it is sent."""
        return f"task-{self.number}"

    @property
    def input(self) -> dict[str, Any]:
        """The task's input."""
        return {"items": list(self.items)}

    def graph(self) -> graph_pb2.Graph:
        """The task's graph as the API takes it."""
        return graph_pb2.Graph(steps=[step.message() for step in self.steps])

    def answers(self) -> dict[str, str]:
        """The digest that each step gives, items included, when all goes well."""
        found: dict[str, str] = {}
        outputs: dict[str, Any] = {}
        for step in self.steps:
            if step.items is None:
                given = {name: outputs[name] for name in step.depends_on}
                outputs[step.name] = found[step.name] = digest(step.name, given)
                continue
            for place, item in enumerate(self.items):
                step_id = f"{step.name}[{place}]"
                found[step_id] = digest(step_id, item)
            outputs[step.name] = [found[f"{step.name}[{i}]"] for i in range(len(self.items))]
        return found


def draw_tasks(rng: random.Random) -> Iterator[TaskIntent]:
    """Draw tasks without end."""
    number = 0
    while True:
        yield _draw_task(rng, number)
        number += 1


def _draw_task(rng: random.Random, number: int) -> TaskIntent:
    items = tuple(f"item-{i}" for i in range(rng.randint(2, 9)))
    draw = rng.choices([_chain, _layers, _items], weights=[2, 3, 2])[0]
    steps = draw(rng, len(items))
    fate = rng.choices(["well", "cancel", "retry", "never"], weights=[12, 3, 3, 1])[0]
    ends, cancel_after, retried = (SUCCEEDED,), None, False
    if fate == "cancel":
        ends, cancel_after = (SUCCEEDED, CANCELLED), rng.uniform(0, 0.6)
    elif fate == "retry":
        steps, retried = _spoil(rng, steps, {"ms": 5, "fail_to": rng.randint(2, 4)}), True
    elif fate == "never":
        steps, ends = _spoil(rng, steps, {"ms": 5, "never": True}), (FAILED,)
    return TaskIntent(
        number=number,
        steps=steps,
        items=items,
        ends=ends,
        senders=rng.choices([1, 2, 3], weights=[6, 3, 1])[0],
        cancel_after=cancel_after,
        retried=retried,
        watched=rng.random() < 0.4,
    )


def _do(rng: random.Random) -> dict[str, Any]:
    do: dict[str, Any] = {"ms": rng.choice([0, 1, 5, 20, 60, 60, 250])}
    if rng.random() < 0.1:
        do["fail_to"] = rng.randint(1, 2)
    return do


def _chain(rng: random.Random, _: int) -> tuple[StepIntent, ...]:
    return tuple(
        StepIntent(f"s{i}", (f"s{i - 1}",) if i else (), _do(rng), in_thread=rng.random() < 0.2)
        for i in range(rng.randint(2, 8))
    )


def _layers(rng: random.Random, _: int) -> tuple[StepIntent, ...]:
    """Two to four layers, each step behind one to three of the layer before; one last join."""
    layers: list[list[StepIntent]] = []
    for depth in range(rng.randint(2, 4)):
        above = [step.name for step in layers[-1]] if layers else []
        layers.append(
            [
                StepIntent(
                    f"l{depth}_{place}",
                    tuple(sorted(rng.sample(above, min(len(above), rng.randint(1, 3))))),
                    _do(rng),
                )
                for place in range(rng.randint(1, 4))
            ]
        )
    steps = [step for layer in layers for step in layer]
    last = StepIntent("last", tuple(step.name for step in steps), _do(rng))
    return (*steps, last)


def _items(rng: random.Random, count: int) -> tuple[StepIntent, ...]:
    return (
        StepIntent("before", (), _do(rng)),
        StepIntent("each", ("before",), _do(rng), items=count),
        StepIntent("after", ("each",), _do(rng)),
    )


def _spoil(
    rng: random.Random, steps: tuple[StepIntent, ...], do: Mapping[str, Any]
) -> tuple[StepIntent, ...]:
    """Make one plain step fail for good at its first attempt."""
    bad = rng.choice([step.name for step in steps if step.items is None])
    return tuple(
        StepIntent(step.name, step.depends_on, do, attempts=1) if step.name == bad else step
        for step in steps
    )
