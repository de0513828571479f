"""Builds of indexes: asked for, looked at, ended."""

from collections.abc import Callable, Sequence
from uuid import UUID

from stepwire.errors import Reason, StepwireError
from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection
from vector_svc.indexes.memory import build_bytes, granted_bytes
from vector_svc.indexes.ports import BuildStore
from vector_svc.indexes.records import IndexBuild


class IndexBuilds:
    """The builds of all tenants.

    Args:
        store: Where they are kept.
        collections: What they are of.
        memory_bytes: Most memory of a build.
        requested: Called when there is a new one.
    """

    def __init__(
        self,
        store: BuildStore,
        *,
        collections: Collections,
        memory_bytes: int,
        requested: Callable[[], None],
    ) -> None:
        self._store = store
        self._collections = collections
        self._memory_bytes = memory_bytes
        self._requested = requested

    async def request(self, tenant_id: str, name: str, *, allow_slow: bool) -> IndexBuild:
        """Ask for a build; return it, or the one that is under way.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, or INDEX_TOO_LARGE.
        """

        async def ask(collection: Collection) -> UUID:
            return await request_build(
                self._store, collection, limit=self._memory_bytes, allow_slow=allow_slow
            )

        build_id = await self._collections.use(tenant_id, name, ask)
        self._requested()
        return await self.get(tenant_id, build_id)

    async def get(self, tenant_id: str, build_id: UUID) -> IndexBuild:
        """Return a build and how far it has come.

        Raises:
            StepwireError: INDEX_BUILD_NOT_FOUND.
        """
        found = await self._store.get(tenant_id, build_id)
        if found is None:
            raise StepwireError(
                Reason.INDEX_BUILD_NOT_FOUND,
                f"there is no index build {str(build_id)!r}",
                metadata={"build_id": str(build_id)},
            )
        return found

    async def list(self, tenant_id: str, name: str) -> Sequence[IndexBuild]:
        """Return the latest builds of a collection, the latest first.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        return await self._collections.use(tenant_id, name, self._store.latest)

    async def cancel(self, tenant_id: str, build_id: UUID) -> IndexBuild:
        """End a build; one that has ended stays as it is.

        Raises:
            StepwireError: INDEX_BUILD_NOT_FOUND.
        """
        await self.get(tenant_id, build_id)
        await self._store.cancel(tenant_id, build_id)
        return await self.get(tenant_id, build_id)


async def request_build(
    store: BuildStore, collection: Collection, *, limit: int, allow_slow: bool
) -> UUID:
    """Ask for a build of a collection's index.

    Raises:
        StepwireError: INDEX_TOO_LARGE, unless `allow_slow`.
    """
    estimated = build_bytes(collection.config, rows=await store.rows(collection))
    if estimated > limit and not allow_slow:
        raise StepwireError(
            Reason.INDEX_TOO_LARGE,
            f"the build would take about {estimated >> 20} MiB, and builds have {limit >> 20} MiB",
            metadata={
                "collection": collection.config.name,
                "estimated_bytes": str(estimated),
                "limit_bytes": str(limit),
            },
        )
    return await store.request(
        collection,
        estimated_bytes=estimated,
        memory_bytes=granted_bytes(estimated, limit=limit),
    )
