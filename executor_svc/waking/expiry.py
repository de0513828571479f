"""Ends steps whose schedule_to_close is over while no worker has them.

A worker that claims such a step finds out by itself. Where none comes, what the end of the
step means is decided here, as a worker would, and by Postgres' clock.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from executor_svc.engine.decisions import expired
from executor_svc.engine.ports import ExpiredStep, ExpiryStore
from executor_svc.engine.records import Attempt
from executor_svc.engine.state_machine import Settlement, settle
from executor_svc.graphs.cache import GraphCache, NewerGraphError
from executor_svc.graphs.graph import Graph
from executor_svc.waking.announce import Announcer

logger = logging.getLogger(__name__)


class Expiry:
    """Ends what has expired."""

    def __init__(self, store: ExpiryStore, graphs: GraphCache, announcer: Announcer) -> None:
        self._store = store
        self._graphs = graphs
        self._announcer = announcer
        self._rng = random.Random()  # noqa: S311 - jitter
        # Newer code has accepted them, and ends their steps.
        self._newer: set[bytes] = set()

    async def sweep(self) -> int:
        """End all steps that have expired by now; return how many."""
        ended = 0
        while found := await self._store.expired(self._newer):
            graphs = await self._graphs_of(found)
            refs = [step.ref for step in found if step.graph_hash in graphs]
            if not refs:
                continue
            count, effects = await self._store.expire(refs, partial(self._settlement, graphs))
            self._announcer.announce(effects)
            ended += count
            if not count:
                # Somebody else has them in hand.
                break
        return ended

    async def _graphs_of(self, found: Sequence[ExpiredStep]) -> Mapping[bytes, Graph]:
        """Return the graphs of steps, without those that this code does not know."""
        graphs: dict[bytes, Graph] = {}
        for graph_hash in {step.graph_hash for step in found}:
            try:
                graphs[graph_hash] = await self._graphs.load(graph_hash, self._store.read_graph)
            except NewerGraphError as error:
                logger.warning("a newer executor must end steps", extra={"cause": str(error)})
                self._newer.add(graph_hash)
        return graphs

    def _settlement(self, graphs: Mapping[bytes, Graph], attempt: Attempt) -> Settlement:
        graph = graphs[attempt.graph_hash]
        return settle(
            graph,
            attempt,
            expired(graph.steps[attempt.ordinal]),
            now=datetime.now(UTC),
            rng=self._rng,
            claims=0,
            # Nobody has started it.
            announced=True,
        )
