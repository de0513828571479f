"""What a run asks for: tasks with known answers. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwire.api.executor.v1 import graph_pb2

SUCCEEDED, FAILED, CANCELLED, SKIPPED = "SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"
FIRST_BACKOFF_NANOS, LONGEST_BACKOFF_NANOS = 20_000_000, 100_000_000
SIGNAL = "go"


@dataclass(frozen=True, slots=True)
class StepIntent:
    """A step to run.

    Attributes:
        depends_on: names of the steps before it.
        do: what its function is to do; see `chaos_functions`.
        attempts: the most attempts of its retry policy.
        items: number of items of a for_each step; None for a plain one.
        in_thread: whether its function is an ordinary one.
        kind: "work" calls a function; "sleep" and "signal" wait, "subtask" runs `inner` as a
            task of its own, "adds" has a function that adds `inner` to the task.
        join: "ALL", "ANY" or "ALL_DONE"; a step with ANY does not look at what it is given.
        when: what its condition says.
        max_parallel: most items at once; 0 for all.
        limit: key and most steps of the key at once.
        undone: whether it has a compensation.
        inner: see `kind`.
    """

    name: str
    depends_on: tuple[str, ...] = ()
    do: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 5
    items: int | None = None
    in_thread: bool = False
    kind: str = "work"
    join: str = "ALL"
    when: bool = True
    max_parallel: int = 0
    limit: tuple[str, int] | None = None
    undone: bool = False
    inner: tuple["StepIntent", ...] = ()

    @property
    def fails(self) -> bool:
        """Whether it fails for good."""
        return bool(self.do.get("never"))

    def message(self) -> graph_pb2.Step:
        """The step as the API takes it."""
        step = graph_pb2.Step(
            name=self.name,
            depends_on=self.depends_on,
            for_each="input.items" if self.items is not None else "",
            when="" if self.when else "false",
            max_parallel=self.max_parallel,
        )
        step.join.mode = graph_pb2.JoinMode.Value(f"JOIN_MODE_{self.join}")
        step.retry.max_attempts = self.attempts
        step.retry.initial_backoff.nanos = FIRST_BACKOFF_NANOS
        step.retry.max_backoff.nanos = LONGEST_BACKOFF_NANOS
        if self.limit is not None:
            step.limit.key, step.limit.max_running = json.dumps(self.limit[0]), self.limit[1]
        if self.undone:
            step.compensation.input = '{"in": output, "do": {}}'
            step.compensation.python.function = "chaos.work"
        self._set_kind(step)
        return step

    def _set_kind(self, step: graph_pb2.Step) -> None:
        match self.kind:
            case "work":
                step.input = self._input()
                step.python.function = "chaos.work_in_thread" if self.in_thread else "chaos.work"
            case "adds":
                graph = graph_of(self.inner)
                step.input = f'{{"graph": {json.dumps(graph.SerializeToString().hex())}}}'
                step.python.function = "chaos.add"
            case "sleep":
                step.sleep.duration.FromMilliseconds(self.do["ms"])
            case "signal":
                step.wait_signal.name = SIGNAL
            case "subtask":
                step.subtask.graph.CopyFrom(graph_of(self.inner))

    def _input(self) -> str:
        given = ", ".join(f'"{name}": steps.{name}' for name in self.depends_on)
        source = "item" if self.items is not None else f"{{{given}}}"
        if self.join == "ANY":
            # Which of them had succeeded by then, nobody can tell beforehand.
            source = "{}"
        return f'{{"in": {source}, "do": {json.dumps(dict(self.do))}}}'


@dataclass(frozen=True, slots=True)
class TaskIntent:
    """A task to run.

    Attributes:
        number: its number in the run; its request_id is made of it.
        steps: its steps, each behind those it depends on.
        items: the items of its for_each steps.
        ends: the states that it may end in.
        senders: how many send the same request at once, and the same signal.
        cancel_after: seconds after which it is cancelled; None if it is not.
        pause_after: seconds after which it is paused for a while; None if it is not.
        retried: whether it is retried each time it has failed.
        watched: whether somebody watches it from the start.
        concurrency: key and most tasks of the key at once.
    """

    number: int
    steps: tuple[StepIntent, ...]
    items: tuple[str, ...] = ()
    ends: tuple[str, ...] = (SUCCEEDED,)
    senders: int = 1
    cancel_after: float | None = None
    pause_after: float | None = None
    retried: bool = False
    watched: bool = False
    concurrency: tuple[str, int] | None = None

    @property
    def request_id(self) -> str:
        """The idempotency key under which it is sent."""
        return f"task-{self.number}"

    @property
    def signal(self) -> str | None:
        """What it is signalled, if a step of it waits for that."""
        waits = any(step.kind == "signal" for step in self.steps)
        return f"signal of {self.request_id}" if waits else None

    @property
    def input(self) -> dict[str, Any]:
        """The task's input."""
        return {"items": list(self.items)}

    def graph(self) -> graph_pb2.Graph:
        """The task's graph as the API takes it."""
        graph = graph_of(self.steps)
        if self.concurrency is not None:
            graph.concurrency.key = json.dumps(self.concurrency[0])
            graph.concurrency.max_running = self.concurrency[1]
        return graph


def graph_of(steps: tuple[StepIntent, ...]) -> graph_pb2.Graph:
    """Steps as the API takes them."""
    return graph_pb2.Graph(steps=[step.message() for step in steps])
