"""What a graph looks like. Pure."""

from collections.abc import Sequence

from executor_svc.graphs.graph import Graph


def longest_chain(graph: Graph) -> Sequence[str]:
    """Return the names of a longest chain of dependencies, first to last."""
    # Steps in an order in which each one follows all that it depends on.
    length = [1] * len(graph.steps)
    before: list[int | None] = [None] * len(graph.steps)
    open_dependencies = [len(step.depends_on) for step in graph.steps]
    ready = [step.ordinal for step in graph.steps if not step.depends_on]
    while ready:
        ordinal = ready.pop()
        for successor in graph.steps[ordinal].successors:
            if length[ordinal] + 1 > length[successor]:
                length[successor] = length[ordinal] + 1
                before[successor] = ordinal
            open_dependencies[successor] -= 1
            if not open_dependencies[successor]:
                ready.append(successor)
    place: int | None = max(range(len(length)), key=length.__getitem__)
    chain: list[str] = []
    while place is not None:
        chain.append(graph.steps[place].name)
        place = before[place]
    return chain[::-1]
