"""The graphs of the benchmark's tasks."""

from stepwire.api.executor.v1 import graph_pb2

Kind = dict[str, dict[str, str]]

# The peers' steps are Python functions too.
PYTHON: Kind = {"python": {"function": "bench.nothing"}}
TRANSFORM: Kind = {"transform": {"expression": "null"}}


def chain(length: int, *, kind: Kind = PYTHON) -> graph_pb2.Graph:
    """Steps that follow each other."""
    graph = graph_pb2.Graph()
    for place in range(length):
        step = graph.steps.add(name=f"s{place}", **kind)
        if place:
            step.depends_on.append(f"s{place - 1}")
    return graph


def fan_out(width: int) -> graph_pb2.Graph:
    """One step, then `width` at once, then one that joins them."""
    names = [f"p{place}" for place in range(width)]
    graph = graph_pb2.Graph()
    graph.steps.add(name="start", **PYTHON)
    for name in names:
        graph.steps.add(name=name, depends_on=["start"], **PYTHON)
    graph.steps.add(name="join", depends_on=names, **PYTHON)
    return graph


def sleeper(seconds: float) -> graph_pb2.Graph:
    """One step that waits."""
    graph = graph_pb2.Graph()
    graph.steps.add(name="sleep", python={"function": "bench.sleep"}, input=str(seconds))
    return graph
