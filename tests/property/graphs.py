"""Small graphs of every shape, and their form as a request's graph."""

from collections.abc import Sequence

from hypothesis import strategies as st

from executor_svc.graphs.cache import ACCEPTED
from executor_svc.graphs.compile import compile_graph
from executor_svc.graphs.graph import Graph
from stepwire.api.executor.v1 import graph_pb2
from tests.property.model_values import MAX_ATTEMPTS, Join, Node

MAX_ITEMS = 4
WAITS = ("", "", "", "sleep", "signal:go")


@st.composite
def joins(draw: st.DrawFn, most: int) -> tuple[Join, int]:
    """A join over at most `most` steps, and how many of them AT_LEAST needs."""
    join = draw(st.sampled_from(Join))
    return join, draw(st.integers(1, most)) if join is Join.AT_LEAST else 0


@st.composite
def node_lists(draw: st.DrawFn, most: int = 6) -> tuple[Node, ...]:
    """The steps of a graph, each one behind those it depends on."""
    nodes: list[Node] = []
    for place in range(draw(st.integers(1, most))):
        earlier = [node.name for node in nodes]
        wanted = st.sets(st.sampled_from(earlier), max_size=3) if earlier else st.just(set())
        depends_on = tuple(sorted(draw(wanted)))
        join, at_least = draw(joins(len(depends_on))) if depends_on else (Join.ALL, 0)
        each = draw(st.integers(0, 3)) == 0
        items_join, items_at_least = draw(joins(3)) if each else (Join.ALL, 0)
        nodes.append(
            Node(
                f"s{place}",
                depends_on,
                join,
                at_least,
                each=each,
                items_join=items_join,
                items_at_least=items_at_least,
                max_parallel=draw(st.integers(0, 2)) if each else 0,
                waits=draw(st.sampled_from(WAITS)),
                may_skip=draw(st.booleans()),
            )
        )
    return tuple(nodes)


def compiled(nodes: Sequence[Node]) -> Graph:
    return compile_graph(graph_pb2.Graph(steps=[_step(node) for node in nodes]), limits=ACCEPTED)


def _step(node: Node) -> graph_pb2.Step:
    step = graph_pb2.Step(name=node.name, depends_on=node.depends_on)
    step.retry.max_attempts = MAX_ATTEMPTS
    # Time passes when the test says so.
    step.retry.initial_backoff.seconds = 3600
    # Some kinds are claimed by the score, others one at a time.
    if node.name in ("s1", "s3"):
        step.transform.expression = "1"
    else:
        step.python.function = "any"
    step.join.mode = graph_pb2.JoinMode.Value(f"JOIN_MODE_{node.join}")
    step.join.at_least = node.at_least
    if node.may_skip:
        step.when = "true"
    if node.each:
        step.for_each = "[1]"
        step.max_parallel = node.max_parallel
        step.items_join.mode = graph_pb2.JoinMode.Value(f"JOIN_MODE_{node.items_join}")
        step.items_join.at_least = node.items_at_least
    return step
