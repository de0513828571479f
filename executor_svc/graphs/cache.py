"""Compiled graphs by hash, kept while they are used."""

import asyncio
import contextvars
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


class NewerGraphError(StepwireError):
    """The graph has fields or values that this code does not know: newer code accepted it."""

    def __init__(self, graph_hash: bytes, why: str = "it has fields that are not known") -> None:
        text = graph_hash.hex()
        super().__init__(
            Reason.GRAPH_TOO_NEW,
            f"graph {text} was accepted by a newer version, and this one cannot read it: {why}",
            metadata={"graph_hash": text},
        )


class GraphCache:
    """The graphs used last, as many as have `capacity_bytes` of encoding together."""

    def __init__(self, capacity_bytes: int = 16 * 1024 * 1024) -> None:
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._graphs: OrderedDict[bytes, Graph] = OrderedDict()
        self._loading: dict[bytes, asyncio.Task[Graph]] = {}

    def get(self, graph_hash: bytes) -> Graph | None:
        """Return a graph that is kept."""
        graph = self._graphs.get(graph_hash)
        if graph is not None:
            self._graphs.move_to_end(graph_hash)
        return graph

    def put(self, graph: Graph) -> None:
        """Keep a graph."""
        known = self._graphs.get(graph.graph_hash)
        if known is None:
            self._used_bytes += len(graph.spec)
        elif known.is_checked:
            return
        self._graphs[graph.graph_hash] = graph
        while self._used_bytes > self._capacity_bytes and len(self._graphs) > 1:
            _, oldest = self._graphs.popitem(last=False)
            self._used_bytes -= len(oldest.spec)

    def compile(self, message: graph_pb2.Graph, *, limits: GraphLimits, field: str) -> Graph:
        """Return the compiled form of a request's graph; see `compile_graph`."""
        graph = self.get(hash_of(canonical(message)))
        # One that was accepted, by whatever rules, need not keep those of today.
        if graph is None or (limits.is_new and not graph.is_checked):
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
        if graph is not None:
            return graph
        # The steps of a large graph ask for it all at once, and one answer does for them.
        loading = self._loading.get(graph_hash)
        if loading is None:
            loading = self._begin(graph_hash, read)
        return await asyncio.shield(loading)

    def _begin(
        self, graph_hash: bytes, read: Callable[[bytes], Awaitable[bytes | None]]
    ) -> "asyncio.Task[Graph]":
        # It is no part of the call that happened to begin it.
        loading = asyncio.create_task(
            self._load(graph_hash, read), name="graph", context=contextvars.Context()
        )
        self._loading[graph_hash] = loading

        def forget(done: "asyncio.Task[Graph]") -> None:
            del self._loading[graph_hash]
            # Nobody may be left to be told of a failure.
            if not done.cancelled():
                done.exception()

        loading.add_done_callback(forget)
        return loading

    async def _load(
        self, graph_hash: bytes, read: Callable[[bytes], Awaitable[bytes | None]]
    ) -> Graph:
        spec = await read(graph_hash)
        if spec is None:
            raise StepwireError(Reason.INTERNAL, f"the record has no graph {graph_hash.hex()}")
        message = graph_pb2.Graph.FromString(spec)
        message.DiscardUnknownFields()
        if canonical(message) != spec:
            raise NewerGraphError(graph_hash)
        try:
            graph = compile_graph(message, limits=ACCEPTED)
        except StepwireError as error:
            raise NewerGraphError(graph_hash, error.message) from error
        self.put(graph)
        return graph
