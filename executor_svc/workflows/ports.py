"""What workflows need of the world."""

from collections.abc import Sequence
from typing import Protocol

from executor_svc.graphs.graph import Graph
from executor_svc.workflows.records import Draft, Last, Version, VersionKey, VersionState


class WorkflowStore(Protocol):
    """Keeps the versions of workflows."""

    async def find(self, key: VersionKey) -> Version | None:
        """Return a version.

        An empty one means the newest: the active one with the highest place, or, when none
        is active, the deprecated one.
        """

    async def last(self, tenant_id: str, name: str) -> Last:
        """Return where a workflow's versions end."""

    async def add(self, key: VersionKey, place: int, draft: Draft, graph: Graph) -> Version | None:
        """Add a version and its graph; None when the version or the place is taken."""

    async def write(self, key: VersionKey, draft: Draft, graph: Graph) -> Version | None:
        """Give a version what `draft` says and return it.

        None when there is no such version, or it was used and holds another graph or other
        defaults.
        """

    async def use(self, key: VersionKey) -> Version | None:
        """Record that a version is used, if that is new, and return it; None if it is gone."""

    async def set_state(self, key: VersionKey, state: VersionState) -> Version | None:
        """Set a version's state and return it; None when there is no such version."""

    async def delete(self, key: VersionKey) -> bool:
        """Delete a version that was never used; False when there is none of that kind."""

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Version]:
        """Return the newest version of each workflow behind a name, by name."""

    async def versions(
        self, tenant_id: str, name: str, *, before: int | None, limit: int
    ) -> Sequence[Version]:
        """Return a workflow's versions before a place, the last first."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """Return a graph's canonical encoding."""
