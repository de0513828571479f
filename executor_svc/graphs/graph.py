"""What a graph means: which step follows which, what each one reads.

Pure: no I/O. `executor_svc.graphs.compile` makes it from a request; one compiled graph is shared
by all tasks that run it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cached_property
from typing import Any

from executor_svc.engine.records import NewStep, Trait
from executor_svc.graphs.expressions import Expression
from executor_svc.graphs.retry import RetryPolicy


class JoinMode(Enum):
    """Which of several steps must succeed; see graph.proto."""

    ALL = "all"
    AT_LEAST = "at_least"
    ALL_DONE = "all_done"


@dataclass(frozen=True, slots=True)
class Join:
    """A join policy; ANY is AT_LEAST 1."""

    mode: JoinMode = JoinMode.ALL
    at_least: int = 0

    def needs(self, count: int) -> int:
        """How many of `count` steps must succeed (ALL_DONE: end)."""
        return self.at_least if self.mode is JoinMode.AT_LEAST else count

    @property
    def tolerates_failure(self) -> bool:
        """Whether it can be satisfied although a step has failed."""
        return self.mode is not JoinMode.ALL

    def counts(self, *, succeeded: bool) -> bool:
        """Whether a step that has ended so is one of those needed."""
        return succeeded or self.mode is JoinMode.ALL_DONE


@dataclass(frozen=True, slots=True)
class Limit:
    """A step's limit; 0 is no bound. See graph.proto."""

    key: Expression
    max_running: int
    max_starts: int
    period: timedelta


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A graph's concurrency key; `policy` is the number of the ConcurrencyPolicy."""

    key: Expression
    max_running: int
    policy: int


@dataclass(frozen=True)
class Step:
    """A compiled step.

    Attributes:
        ordinal: position in the graph.
        name: unique in the graph.
        kind: name of the kind, as in the proto's `kind`.
        spec: the kind's own message.
        queue: where it waits for a worker.
        retry: what happens when an attempt fails.
        timeout: longest run of an attempt.
        lifetime: longest time from when it could first start to its end; None for no limit.
        heartbeat_timeout: longest silence of an attempt; None for no limit.
        priority: 1 to 9; 0 for that of the task.
        depends_on: names of the steps it waits for.
        join: which of them must succeed.
        when: whether to run it; None for always.
        for_each: gives its items; None for a step that runs once.
        items_join: which of its items must succeed.
        max_parallel: most items at once; 0 for all.
        input: gives its input; None for the default, see the proto.
        template: the kind's own expressions, in the order of their use.
        limit: what bounds its attempts in the cluster; None for nothing.
        compensation: what undoes it; None for nothing.
        successors: ordinals of the steps that depend on it.
        tolerated: whether the task goes on when it fails.
    """

    ordinal: int
    name: str
    kind: str
    spec: Any
    queue: str
    retry: RetryPolicy
    timeout: timedelta
    lifetime: timedelta | None
    heartbeat_timeout: timedelta | None
    priority: int
    depends_on: tuple[str, ...]
    join: Join
    when: Expression | None
    for_each: Expression | None
    items_join: Join
    max_parallel: int
    input: Expression | None
    template: tuple[Expression, ...]
    limit: Limit | None
    compensation: "Compensation | None"
    successors: tuple[int, ...]
    tolerated: bool

    @property
    def is_sink(self) -> bool:
        """Whether no step depends on it."""
        return not self.successors

    @property
    def is_join(self) -> bool:
        """Whether it counts what it waits for, in a row of its own from the start."""
        return len(self.depends_on) > 1

    @cached_property
    def reads_when(self) -> frozenset[str]:
        """Names of the steps whose outputs `when` needs."""
        return frozenset() if self.when is None else self._named(self.when)

    @cached_property
    def reads_items(self) -> frozenset[str]:
        """Names of the steps whose outputs `for_each` needs."""
        return frozenset() if self.for_each is None else self._named(self.for_each)

    @cached_property
    def reads_run(self) -> frozenset[str]:
        """Names of the steps whose outputs running it, or one of its items, needs."""
        default = frozenset() if self.for_each is not None else frozenset(self.depends_on)
        used = default if self.input is None else self._named(self.input)
        limit = () if self.limit is None else (self.limit.key,)
        return used.union(*(self._named(each) for each in (*self.template, *limit)))

    @cached_property
    def reads_states(self) -> bool:
        """Whether an expression asks how the dependencies ended."""
        expressions = (self.when, self.for_each, self.input, *self.template)
        return any(each is not None and each.reads_states for each in expressions)

    def _named(self, expression: Expression) -> frozenset[str]:
        return frozenset(self.depends_on) if expression.steps is None else expression.steps


@dataclass(frozen=True)
class Compensation:
    """What undoes a step.

    Attributes:
        spec: the proto's message.
        input: gives its input; None for the step's output.
    """

    spec: Any
    input: Expression | None


@dataclass(frozen=True)
class Graph:
    """A compiled graph.

    Attributes:
        graph_hash: SHA-256 of `spec`.
        spec: canonical encoding of the proto.
        steps: by ordinal.
        concurrency: how many tasks of a key may run; None for any number.
        timeout: longest life of a task; None for no limit.
        is_checked: whether it keeps the rules for new graphs.
    """

    graph_hash: bytes
    spec: bytes
    steps: tuple[Step, ...]
    concurrency: Concurrency | None = None
    timeout: timedelta | None = None
    is_checked: bool = True

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        """The steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def initial(self) -> Sequence[Step]:
        """Steps that have a row from the start: those that are ready, and the joins."""
        return [step for step in self.steps if len(step.depends_on) != 1]

    @cached_property
    def sinks(self) -> Sequence[Step]:
        """Steps that nothing depends on; the task has succeeded when all of them have."""
        return [step for step in self.steps if step.is_sink]

    @cached_property
    def traits(self) -> Trait:
        """What the graph asks of its tasks' transitions."""
        traits = Trait.NONE
        if self.concurrency is not None:
            traits |= Trait.KEYED
        if any(step.kind == "subtask" for step in self.steps):
            traits |= Trait.PARENT
        # A join need not wait for all, if some are enough or one is skipped.
        if any(step.join.mode is JoinMode.AT_LEAST or step.when for step in self.steps):
            traits |= Trait.LEAVES_STEPS
        if any(step.compensation is not None for step in self.steps):
            traits |= Trait.COMPENSATES
        return traits

    def new_steps(self, priority: int) -> list[NewStep]:
        """The rows that a task has from the start, for a task of this priority."""
        return [
            NewStep(
                step.name,
                step.ordinal,
                needs=step.join.needs(len(step.depends_on)),
                open=len(step.depends_on),
                queue=step.queue,
                priority=step.priority or priority,
                lifetime=step.lifetime,
            )
            for step in self.initial
        ]


def item_step_id(name: str, index: int) -> str:
    """Id of item `index` of the for_each step `name`."""
    return f"{name}[{index}]"


def scope_in(step_id: str) -> str | None:
    """The step that added the one with this id; None for a step of the task's own graph."""
    return step_id.rpartition("/")[0] or None


def item_range(name: str) -> tuple[str, str]:
    """The open range of step ids, in byte order, that holds the items of `name`.

    It also holds what items have added.
    """
    return f"{name}[", f"{name}\\"


def find_cycle(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps of a cycle, the first one again at the end; empty when there is none.

    `dependencies` has every step as a key.
    """
    finished: set[str] = set()
    for root in dependencies:
        path: list[str] = []
        on_path: set[str] = set()
        # Depth-first without recursion: (step, whether it is being left).
        stack = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                finished.add(name)
                continue
            if name in on_path:
                cycle = path[path.index(name) :]
                return [*reversed(cycle), cycle[-1]]
            if name in finished:
                continue
            path.append(name)
            on_path.add(name)
            stack.append((name, True))
            stack.extend((dependency, False) for dependency in dependencies[name])
    return []
