"""From the name of a workflow to the graph that a new task runs."""

import asyncio
import contextvars
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.graph import Graph
from executor_svc.workflows import names
from executor_svc.workflows.ports import WorkflowStore
from executor_svc.workflows.records import Defaults, Version, VersionKey, VersionState

DEFAULT_TRUST = timedelta(milliseconds=500)
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for.

    Attributes:
        name: the workflow.
        version: its version; never empty.
        graph: what tasks of the version do.
        defaults: what they get where their requests say nothing.
    """

    name: str
    version: str
    graph: Graph
    defaults: Defaults


@dataclass(slots=True)
class _Lookup:
    """A look into the record, shared by all who ask for the same name meanwhile."""

    reading: "asyncio.Task[Version]"
    trusted_until: float


class Resolver:
    """Answers from memory what it has read within `trust`; one look serves all who ask.

    Graph and defaults of a used version never change. What may be older than the record, by
    at most `trust`, is which version is the newest and whether one is deprecated; changes
    made in the same process are seen at once.
    """

    def __init__(
        self,
        store: WorkflowStore,
        graphs: GraphCache,
        *,
        trust: timedelta = DEFAULT_TRUST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._graphs = graphs
        self._trust_seconds = trust.total_seconds()
        self._clock = clock
        self._lookups: OrderedDict[VersionKey, _Lookup] = OrderedDict()

    async def resolve(self, tenant_id: str, name: str, version: str = "") -> Resolved:
        """Return what a new task that names a workflow runs, and record the version as used.

        Args:
            tenant_id: whose workflow.
            name: the workflow.
            version: its version; empty means the newest active one.

        Raises:
            StepwireError: WORKFLOW_NOT_FOUND, or WORKFLOW_VERSION_DEPRECATED for a version
                that takes no new tasks.
        """
        key = VersionKey(tenant_id, name, version)
        lookup = self._lookups.get(key)
        if lookup is None or self._clock() >= lookup.trusted_until:
            lookup = self._look(key)
        # A caller that goes away must not end the look of the others.
        found = await asyncio.shield(lookup.reading)
        return await self._resolved(found)

    async def preview(self, tenant_id: str, name: str, version: str = "") -> Resolved:
        """Return the same as `resolve`, straight from the record, and record nothing."""
        return await self._resolved(await self._find(VersionKey(tenant_id, name, version)))

    async def graph_of(self, version: Version) -> Graph:
        """Return a version's graph."""
        return await self._graphs.load(version.draft.graph_hash, self._store.read_graph)

    def forget(self, key: VersionKey) -> None:
        """Look into the record when a version of the workflow, or the newest, is next named."""
        self._lookups.pop(key, None)
        self._lookups.pop(replace(key, version=""), None)

    async def _resolved(self, version: Version) -> Resolved:
        graph = await self.graph_of(version)
        return Resolved(version.key.name, version.key.version, graph, version.draft.defaults)

    def _look(self, key: VersionKey) -> _Lookup:
        # It is no part of the call that happened to begin it.
        reading = asyncio.create_task(
            self._read(key), name="workflow lookup", context=contextvars.Context()
        )
        lookup = _Lookup(reading, self._clock() + self._trust_seconds)
        self._lookups[key] = lookup
        self._lookups.move_to_end(key)
        while len(self._lookups) > MAX_KEPT:
            self._lookups.popitem(last=False)

        def drop_failed(done: "asyncio.Task[Version]") -> None:
            failed = done.cancelled() or done.exception() is not None
            if failed and self._lookups.get(key) is lookup:
                del self._lookups[key]

        reading.add_done_callback(drop_failed)
        return lookup

    async def _read(self, key: VersionKey) -> Version:
        while True:
            found = await self._find(key)
            if found.used_at is not None:
                return found
            used = await self._store.use(found.key)
            if used is not None:
                return used
            # Deleted between the two: look what the name stands for now.

    async def _find(self, key: VersionKey) -> Version:
        found = await self._store.find(key)
        if found is None:
            raise names.not_found(key.name, key.version)
        if found.state is not VersionState.ACTIVE:
            raise names.deprecated(key.name, found.key.version)
        return found
