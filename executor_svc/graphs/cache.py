"""Compiled graphs by hash, kept while they are used."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from executor_svc.graphs.compile import GraphLimits, canonical, compile_graph, hash_of
from executor_svc.graphs.graph import Graph
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError

# A graph that was accepted is run as it is, whatever the limits are today.
ACCEPTED = GraphLimits(
    max_steps=2**31, max_bytes=2**31, queues=None, max_dependencies=2**31, is_new=False
)


class NewerGraphError(Exception):
    """The graph has fields or values that this code does not know: newer code accepted it."""


class GraphCache:
    """The graphs used last, as many as have `capacity_bytes` of encoding together."""

    def __init__(self, capacity_bytes: int = 16 * 1024 * 1024) -> None:
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._graphs: OrderedDict[bytes, Graph] = OrderedDict()

    def get(self, graph_hash: bytes) -> Graph | None:
        """Return a graph that is kept."""
        graph = self._graphs.get(graph_hash)
        if graph is not None:
            self._graphs.move_to_end(graph_hash)
        return graph

    def put(self, graph: Graph) -> None:
        """Keep a graph."""
        if graph.graph_hash in self._graphs:
            return
        self._graphs[graph.graph_hash] = graph
        self._used_bytes += len(graph.spec)
        while self._used_bytes > self._capacity_bytes and len(self._graphs) > 1:
            _, oldest = self._graphs.popitem(last=False)
            self._used_bytes -= len(oldest.spec)

    def compile(self, message: graph_pb2.Graph, *, limits: GraphLimits, field: str) -> Graph:
        """Return the compiled form of a request's graph; see `compile_graph`."""
        graph = self.get(hash_of(canonical(message)))
        if graph is None:
            graph = compile_graph(message, limits=limits, field=field)
            self.put(graph)
        return graph

    async def load(
        self, graph_hash: bytes, read: Callable[[bytes], Awaitable[bytes | None]]
    ) -> Graph:
        """Return a graph that was accepted, read from the record if need be.

        Raises:
            StepwireError: INTERNAL, when the record does not have it.
            NewerGraphError: this code would not run it as it is meant.
        """
        graph = self.get(graph_hash)
        if graph is None:
            spec = await read(graph_hash)
            if spec is None:
                raise StepwireError(Reason.INTERNAL, f"the record has no graph {graph_hash.hex()}")
            message = graph_pb2.Graph.FromString(spec)
            message.DiscardUnknownFields()
            if canonical(message) != spec:
                raise NewerGraphError(graph_hash.hex())
            try:
                graph = compile_graph(message, limits=ACCEPTED)
            except StepwireError as error:
                raise NewerGraphError(f"{graph_hash.hex()}: {error}") from error
            self.put(graph)
        return graph
