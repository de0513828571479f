"""Registering, reading and retiring workflows: the verbs of their owner."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from executor_svc.graphs.graph import Graph
from executor_svc.workflows import names
from executor_svc.workflows.ports import WorkflowStore
from executor_svc.workflows.records import Draft, Last, Version, VersionKey, VersionState
from executor_svc.workflows.resolver import Resolver


class Workflows:
    """The workflows of all tenants; each call names the tenant.

    `resolver` is that of the same process: it hears of what is changed here, so that one
    who registers a version and then names it meets what was registered.
    """

    def __init__(self, store: WorkflowStore, resolver: Resolver) -> None:
        self._store = store
        self._resolver = resolver

    async def register(
        self, key: VersionKey, draft: Draft, graph: Graph, *, validate_only: bool = False
    ) -> Version:
        """Register a version; see `RegisterWorkflowRequest` for an empty one.

        Raises:
            StepwireError: WORKFLOW_VERSION_EXISTS, when it was used with another graph or
                other defaults, or FIELD_INVALID, when no number follows the last one.
        """
        if validate_only:
            return await self._preview(key, draft)
        while (version := await self._register(key, draft, graph)) is None:
            # Somebody else registered, used or deleted a version meanwhile: look again.
            pass
        self._resolver.forget(key)
        return version

    async def _register(self, key: VersionKey, draft: Draft, graph: Graph) -> Version | None:
        # Read first: what is registered after this takes the place that would be taken here.
        last = await self._store.last(key.tenant_id, key.name)
        found = await self._known(key, draft)
        if found is not None:
            return await self._store.write(found.key, draft, graph)
        return await self._store.add(_numbered(key, last), last.place + 1, draft, graph)

    async def _known(self, key: VersionKey, draft: Draft) -> Version | None:
        """Return the version that a registration is about, if it is there.

        Raises:
            StepwireError: WORKFLOW_VERSION_EXISTS.
        """
        found = await self._store.find(key)
        if found is None:
            return None
        if not key.version:
            fits = found.state is VersionState.ACTIVE and found.holds(draft)
            return found if fits else None
        if found.used_at is not None and not found.holds(draft):
            raise names.exists(key.name, key.version)
        return found

    async def _preview(self, key: VersionKey, draft: Draft) -> Version:
        now = datetime.now(UTC)
        found = await self._known(key, draft)
        if found is not None:
            return replace(found, draft=draft, updated_at=now)
        last = await self._store.last(key.tenant_id, key.name)
        active = VersionState.ACTIVE
        return Version(_numbered(key, last), last.place + 1, active, draft, now, now, None)

    async def get(self, key: VersionKey) -> tuple[Version, Graph]:
        """Return a version, or the newest one, with its graph.

        Raises:
            StepwireError: WORKFLOW_NOT_FOUND.
        """
        found = await self._store.find(key)
        if found is None:
            raise names.not_found(key.name, key.version)
        return found, await self._resolver.graph_of(found)

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Version]:
        """Return the newest version of each of a tenant's workflows behind a name, by name."""
        return await self._store.list(tenant_id, after=after, limit=limit)

    async def versions(
        self, tenant_id: str, name: str, *, before: int | None, limit: int
    ) -> Sequence[Version]:
        """Return a workflow's versions before a place, the last first.

        Raises:
            StepwireError: WORKFLOW_NOT_FOUND.
        """
        found = await self._store.versions(tenant_id, name, before=before, limit=limit)
        if not found and before is None:
            raise names.not_found(name, "")
        return found

    async def set_state(self, key: VersionKey, state: VersionState) -> Version:
        """Say whether a version takes new tasks, and return it.

        Raises:
            StepwireError: WORKFLOW_NOT_FOUND.
        """
        version = await self._store.set_state(key, state)
        if version is None:
            raise names.not_found(key.name, key.version)
        self._resolver.forget(key)
        return version

    async def delete(self, key: VersionKey) -> None:
        """Delete a version that was never used.

        Raises:
            StepwireError: WORKFLOW_NOT_FOUND or WORKFLOW_VERSION_IN_USE.
        """
        if not await self._store.delete(key):
            if await self._store.find(key) is None:
                raise names.not_found(key.name, key.version)
            raise names.in_use(key.name, key.version)
        self._resolver.forget(key)


def _numbered(key: VersionKey, last: Last) -> VersionKey:
    """Return the key with a version, the next number where it has none.

    Raises:
        StepwireError: FIELD_INVALID, when no number follows that keeps the rules of versions.
    """
    return replace(key, version=key.version or names.check_version(str(last.number + 1)))
