"""What a graph means: which step follows which, what each one reads.

Pure: no I/O. `executor_svc.compile` makes it from a request; one compiled graph is shared
by all tasks that run it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from executor_svc.expressions import Expression
from executor_svc.retry import RetryPolicy


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
        depends_on: names of the steps it waits for.
        for_each: gives its items; None for a step that runs once.
        input: gives its input; None for the default, see the proto.
        template: the kind's own expressions, in the order of their use.
        successors: ordinals of the steps that depend on it.
    """

    ordinal: int
    name: str
    kind: str
    spec: Any
    queue: str
    retry: RetryPolicy
    timeout: timedelta
    depends_on: tuple[str, ...]
    for_each: Expression | None
    input: Expression | None
    template: tuple[Expression, ...]
    successors: tuple[int, ...]

    @property
    def is_sink(self) -> bool:
        """Whether no step depends on it."""
        return not self.successors

    def reads(self, *, item: bool, expanded: bool) -> frozenset[str]:
        """Names of the steps whose outputs an attempt needs.

        Args:
            item: whether the attempt runs one item of a for_each step.
            expanded: whether the attempt gathers a for_each step that has started its items.
        """
        if expanded:
            return frozenset()
        if self.for_each is not None and not item:
            return self._named(self.for_each)
        default = frozenset() if self.for_each is not None else frozenset(self.depends_on)
        used = default if self.input is None else self._named(self.input)
        return used.union(*(self._named(expression) for expression in self.template))

    def _named(self, expression: Expression) -> frozenset[str]:
        return frozenset(self.depends_on) if expression.steps is None else expression.steps


@dataclass(frozen=True)
class Graph:
    """A compiled graph.

    Attributes:
        graph_hash: SHA-256 of `spec`.
        spec: canonical encoding of the proto.
        steps: by ordinal.
    """

    graph_hash: bytes
    spec: bytes
    steps: tuple[Step, ...]

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


def item_step_id(name: str, index: int) -> str:
    """Id of item `index` of the for_each step `name`."""
    return f"{name}[{index}]"


def item_range(name: str) -> tuple[str, str]:
    """The open range of step ids, in byte order, that holds the items of `name`."""
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
