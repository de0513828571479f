"""Collections: made, found, listed, deleted; and found again when memory is out of date."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stepwire.errors import Reason, StepwireError
from stepwire.page_tokens import PageTokens
from vector_svc.collections.ports import CollectionStore
from vector_svc.engine import fields
from vector_svc.engine.cache import Cache
from vector_svc.engine.ports import CollectionGoneError
from vector_svc.engine.records import Collection, CollectionConfig, SizedCollection
from vector_svc.engine.vectors import dimension_mismatch

R = TypeVar("R")

_PAGES = PageTokens("ListCollections")


class Collections:
    """The collections of all tenants.

    What `use` once found is remembered. Another instance may delete a collection
    meanwhile and make one of the same name, so work that finds its collection gone, or of
    another dimension than its vectors, is tried once more with the collection as it is now.
    """

    def __init__(self, store: CollectionStore, *, cache_entries: int) -> None:
        self._store = store
        self._known: Cache[tuple[str, str], Collection] = Cache(
            capacity=cache_entries, ttl_seconds=math.inf
        )

    async def create(self, tenant_id: str, config: CollectionConfig) -> SizedCollection:
        """Make a collection, unless the same one exists.

        Raises:
            StepwireError: FIELD_INVALID, or COLLECTION_EXISTS with another configuration.
        """
        fields.check_config(config)
        collection = await self._store.create(tenant_id, config)
        if collection.config != config:
            raise StepwireError(
                Reason.COLLECTION_EXISTS,
                f"collection {config.name!r} exists with dimension {collection.config.dimension} "
                f"and metric {collection.config.metric}",
                metadata={"collection": config.name},
            )
        return await self.get(tenant_id, config.name)

    async def get(self, tenant_id: str, name: str) -> SizedCollection:
        """Return a collection with its exact number of points.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """

        async def sized(collection: Collection) -> SizedCollection:
            return SizedCollection(collection, await self._store.count(collection))

        return await self.use(tenant_id, name, sized)

    async def list(
        self, tenant_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[SizedCollection], str]:
        """Return a page of collections by name, and the token of the next ("" if none).

        Raises:
            StepwireError: FIELD_INVALID or PAGE_TOKEN_INVALID.
        """
        size = fields.page_size(page_size)
        after = _PAGES.read(tenant_id, page_token)
        found = await self._store.page(tenant_id, after=after, limit=size + 1)
        if len(found) <= size:
            return found, ""
        last = found[size - 1].collection.config.name
        return found[:size], _PAGES.make(tenant_id, last)

    async def delete(self, tenant_id: str, name: str) -> None:
        """Delete a collection and its points.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        fields.check_name(name, field="collection")
        self._known.drop((tenant_id, name))
        if not await self._store.delete(tenant_id, name):
            raise _not_found(name)

    async def use(self, tenant_id: str, name: str, work: Callable[[Collection], Awaitable[R]]) -> R:
        """Do `work` with a collection.

        Args:
            tenant_id: Whose collection.
            name: Its name.
            work: Called a second time if what was remembered of the collection proves out
                of date; it has then changed nothing the first time.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, and what `work` raises.
        """
        fields.check_name(name, field="collection")
        known = self._known.get((tenant_id, name))
        if known is not None:
            try:
                return await work(known)
            except CollectionGoneError:
                pass
            except StepwireError as error:
                if not dimension_mismatch(error):
                    raise
                if await self._load(tenant_id, name) == known:
                    raise
        try:
            return await work(await self._load(tenant_id, name))
        except CollectionGoneError:
            self._known.drop((tenant_id, name))
            raise _not_found(name) from None

    async def _load(self, tenant_id: str, name: str) -> Collection:
        collection = await self._store.find(tenant_id, name)
        if collection is None:
            self._known.drop((tenant_id, name))
            raise _not_found(name)
        self._known.put((tenant_id, name), collection)
        return collection


def _not_found(name: str) -> StepwireError:
    return StepwireError(
        Reason.COLLECTION_NOT_FOUND,
        f"there is no collection {name!r}",
        metadata={"collection": name},
    )
