"""Which graphs need not be stored again before tasks refer to them."""

import pytest

from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.tasks import stored_graphs
from executor_svc.tasks.stored_graphs import RELIED_ON_SECONDS, StoredGraphs
from stepwire.api.executor.v1 import graph_pb2

LIMITS = GraphLimits(max_steps=10, max_bytes=2**20, queues=None)


def a_graph(number):
    step = graph_pb2.Step(name="a", transform={"expression": f"{number}"})
    return compile_graph(graph_pb2.Graph(steps=[step]), limits=LIMITS)


@pytest.fixture
def moment():
    return [1000.0]


@pytest.fixture
def stored(moment):
    return StoredGraphs(clock=lambda: moment[0])


def test_what_is_stored_is_relied_on_from_before_it_was_asked_for(stored, moment):
    graph, other = a_graph(1), a_graph(2)
    asked = stored.now()
    assert stored.missing([graph, graph]) == [graph]
    # The answer may have taken long.
    moment[0] += 100
    stored.remember([graph], asked=asked)
    assert stored.missing([graph, other]) == [other]
    moment[0] = asked + RELIED_ON_SECONDS - 1
    assert stored.missing([graph]) == []
    moment[0] += 1
    assert stored.missing([graph]) == [graph]


def test_only_so_many_are_remembered(stored, monkeypatch):
    monkeypatch.setattr(stored_graphs, "MAX_REMEMBERED", 2)
    graphs = [a_graph(number) for number in range(3)]
    for graph in graphs:
        stored.remember([graph], asked=stored.now())
    assert stored.missing(graphs) == graphs[:2]
