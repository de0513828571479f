"""Which graphs this process may take to be in the record.

Retention drops graphs that nobody has said for long that he will use. Who creates tasks says
so when he stores their graph, and need not say it again for some hours: retention waits for
days longer than that.
"""

from collections.abc import Callable, Iterable, Sequence

from executor_svc.clock import boot_seconds
from executor_svc.graphs.graph import Graph

MAX_REMEMBERED = 100_000
RELIED_ON_SECONDS = 6 * 3600.0


class StoredGraphs:
    """Some of the graphs that are in the record, and until when that can be relied on."""

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def now(self) -> float:
        """Return the time, for `remember`."""
        return self._clock()

    def missing(self, graphs: Iterable[Graph]) -> Sequence[Graph]:
        """Return the graphs, once each, that are to be stored before tasks refer to them."""
        now = self._clock()
        until = self._until
        return list(
            {
                graph.graph_hash: graph
                for graph in graphs
                if until.get(graph.graph_hash, now) <= now
            }.values()
        )

    def remember(self, graphs: Iterable[Graph], *, asked: float) -> None:
        """Keep graphs as stored; `asked` is the time before it was asked for."""
        if len(self._until) >= MAX_REMEMBERED:
            self._until.clear()
        for graph in graphs:
            self._until[graph.graph_hash] = asked + RELIED_ON_SECONDS
