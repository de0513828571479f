"""Drawing tasks from a seed. Pure."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.chaos.intents import CANCELLED, FAILED, SUCCEEDED, StepIntent, TaskIntent

Steps = tuple[StepIntent, ...]

# Steps of the key at once, and tasks of the key at once.
LIMIT = ("narrow", 2)
CONCURRENCY = ("few", 2)


def draw_tasks(rng: random.Random) -> Iterator[TaskIntent]:
    """Draw tasks without end."""
    number = 0
    while True:
        yield _draw_task(rng, number)
        number += 1


def _draw_task(rng: random.Random, number: int) -> TaskIntent:
    items = tuple(f"item-{i}" for i in range(rng.randint(2, 9)))
    shape = rng.choices(list(SHAPES), weights=list(SHAPES.values()))[0]
    steps = shape(rng, len(items))
    task = TaskIntent(
        number=number,
        steps=steps,
        items=items,
        senders=rng.choices([1, 2, 3], weights=[6, 3, 1])[0],
        watched=rng.random() < 0.4,
        concurrency=CONCURRENCY if rng.random() < 0.1 else None,
    )
    match rng.choices(["well", "cancel", "pause", "retry", "never"], weights=[12, 3, 2, 3, 2])[0]:
        case "cancel":
            ends = (SUCCEEDED, CANCELLED)
            return replace(task, ends=ends, cancel_after=rng.uniform(0, 0.6))
        case "pause":
            return replace(task, pause_after=rng.uniform(0, 0.3))
        case "retry":
            do = {"ms": 5, "fail_to": rng.randint(2, 4)}
            return replace(task, steps=_spoil(rng, steps, do), retried=True)
        case "never":
            spoilt = _spoil(rng, tuple(map(_undone, steps)), {"ms": 5, "never": True})
            return replace(task, steps=spoilt, ends=(FAILED,))
    return task


def _undone(step: StepIntent) -> StepIntent:
    """Give a step that works a compensation, and what a step adds."""
    inner = tuple(map(_undone, step.inner)) if step.kind == "adds" else step.inner
    return replace(step, undone=step.kind == "work", inner=inner)


def _do(rng: random.Random) -> dict[str, Any]:
    do: dict[str, Any] = {"ms": rng.choice([0, 1, 5, 20, 60, 60, 250])}
    if rng.random() < 0.1:
        do["fail_to"] = rng.randint(1, 2)
    return do


def _chain(rng: random.Random, _: int) -> Steps:
    return tuple(
        StepIntent(f"s{i}", (f"s{i - 1}",) if i else (), _do(rng), in_thread=rng.random() < 0.2)
        for i in range(rng.randint(2, 8))
    )


def _layers(rng: random.Random, _: int) -> Steps:
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
                    limit=LIMIT if rng.random() < 0.1 else None,
                )
                for place in range(rng.randint(1, 4))
            ]
        )
    steps = [step for layer in layers for step in layer]
    last = StepIntent("last", tuple(step.name for step in steps), _do(rng))
    return (*steps, last)


def _narrow(rng: random.Random, _: int) -> Steps:
    """Several steps that bear only two of them at once."""
    steps = [
        StepIntent(f"n{i}", (), {"ms": rng.choice([20, 60, 100])}, limit=LIMIT)
        for i in range(rng.randint(3, 5))
    ]
    return (*steps, StepIntent("last", tuple(step.name for step in steps), _do(rng)))


def _items(rng: random.Random, count: int) -> Steps:
    return (
        StepIntent("before", (), _do(rng)),
        StepIntent(
            "each", ("before",), _do(rng), items=count, max_parallel=rng.choice([0, 0, 1, 3])
        ),
        StepIntent("after", ("each",), _do(rng)),
    )


def _waits(rng: random.Random, _: int) -> Steps:
    return (
        StepIntent("before", (), _do(rng)),
        StepIntent("slept", ("before",), {"ms": rng.choice([1, 100, 400])}, kind="sleep"),
        StepIntent("told", ("before",), kind="signal"),
        StepIntent("after", ("slept", "told"), _do(rng)),
    )


def _family(rng: random.Random, _: int) -> Steps:
    inner = (StepIntent("c0", (), _do(rng)), StepIntent("c1", ("c0",), _do(rng)))
    return (
        StepIntent("before", (), _do(rng)),
        StepIntent("child", ("before",), kind="subtask", inner=inner),
        StepIntent("other", ("before",), kind="subtask", inner=inner[:1]),
        StepIntent("after", ("child", "other"), _do(rng)),
    )


def _grows(rng: random.Random, _: int) -> Steps:
    inner = (
        StepIntent("a", (), _do(rng)),
        StepIntent("b", (), _do(rng)),
        StepIntent("c", ("a", "b"), _do(rng)),
    )
    return (
        StepIntent("plan", (), kind="adds", inner=inner),
        StepIntent("after", ("plan",), _do(rng)),
    )


def _choices(rng: random.Random, _: int) -> Steps:
    """A branch not taken, a failure that is borne, and a race."""
    return (
        StepIntent("start", (), _do(rng)),
        StepIntent("untaken", ("start",), when=False),
        StepIntent("behind", ("untaken",), _do(rng)),
        StepIntent("borne", ("start",), {"never": True}, attempts=1),
        StepIntent("fast", ("start",), {"ms": 1}),
        StepIntent("slow", ("start",), {"ms": 400}),
        StepIntent("won", ("fast", "slow"), _do(rng), join="ANY"),
        StepIntent("all", ("behind", "borne", "won"), _do(rng), join="ALL_DONE"),
    )


def _spoil(rng: random.Random, steps: Steps, do: Mapping[str, Any]) -> Steps:
    """Make a step that fails its task fail for good at its first attempt."""
    borne = {name for step in steps if step.join != "ALL" for name in step.depends_on}
    bad = rng.choice(
        [
            step.name
            for step in steps
            if step.kind == "work"
            and step.items is None
            and step.name not in borne
            and step.when
            and step.name != "behind"
        ]
    )
    return tuple(
        replace(step, do=do, attempts=1, in_thread=False, undone=False)
        if step.name == bad
        else step
        for step in steps
    )


SHAPES = {
    _chain: 3,
    _layers: 4,
    _narrow: 2,
    _items: 4,
    _waits: 2,
    _family: 2,
    _grows: 2,
    _choices: 2,
}
"""How tasks look, and how often they look so."""
