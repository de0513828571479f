"""Collections: made, found, listed, changed, deleted."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stepwire.errors import Reason, StepwireError
from stepwire.page_tokens import PageTokens
from vector_svc.collections.ports import CollectionStore
from vector_svc.collections.records import Edit, Stats
from vector_svc.collections.rules import (
    check_config,
    check_fields,
    check_index,
    check_query_samples,
    check_ttl,
)
from vector_svc.engine.cache import Cache
from vector_svc.engine.fields import check_name, page_size_of
from vector_svc.engine.ports import CollectionGoneError
from vector_svc.engine.records import Collection, CollectionConfig, SizedCollection
from vector_svc.engine.vectors import dimension_mismatch

R = TypeVar("R")

_PAGES = PageTokens("ListCollections")


class Collections:
    """The collections of all tenants.

    What `use` once found is remembered while the store tells of changes (`trust`). One may
    still be on its way, so work that finds its collection gone, or of another dimension
    than its vectors, is tried once more with the collection as it is now.
    """

    def __init__(self, store: CollectionStore, *, cache_entries: int) -> None:
        self._store = store
        self._known: Cache[tuple[str, str], Collection] = Cache(
            capacity=cache_entries, ttl_seconds=math.inf
        )
        self._trusting = False
        self._changes = 0

    def trust(self, *, telling: bool) -> None:
        """Forget what is remembered, and remember from now on while changes are told."""
        self._trusting = telling
        self.forget()

    def forget(self) -> None:
        """Forget what is remembered: some of it has changed."""
        # A look-up that is under way may find what was before.
        self._changes += 1
        self._known.clear()

    async def create(self, tenant_id: str, config: CollectionConfig) -> SizedCollection:
        """Make a collection, unless the same one exists.

        Raises:
            StepwireError: FIELD_INVALID, NAME_TAKEN, or COLLECTION_EXISTS with another
                configuration.
        """
        check_config(config)
        collection = await self._store.create(tenant_id, config)
        if collection.config != config:
            raise StepwireError(
                Reason.COLLECTION_EXISTS,
                f"collection {config.name!r} exists with another configuration, dimension "
                f"{collection.config.dimension} and metric {collection.config.metric}",
                metadata={"collection": config.name},
            )
        return await self.get(tenant_id, config.name)

    async def get(self, tenant_id: str, name: str) -> SizedCollection:
        """Return a collection with its exact number of points.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        return await self.use(tenant_id, name, self._store.sized)

    async def stats(self, tenant_id: str, name: str) -> Stats:
        """Return what a collection takes.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        return await self.use(tenant_id, name, self._store.stats)

    async def list(
        self, tenant_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[SizedCollection], str]:
        """Return a page of collections by name, and the token of the next ("" if none).

        Raises:
            StepwireError: FIELD_INVALID or PAGE_TOKEN_INVALID.
        """
        size = page_size_of(page_size)
        after = _PAGES.read(tenant_id, page_token)
        found = await self._store.page(tenant_id, after=after, limit=size + 1)
        if len(found) <= size:
            return found, ""
        last = found[size - 1].collection.config.name
        return found[:size], _PAGES.make(tenant_id, last)

    async def update(self, tenant_id: str, name: str, edit: Edit, *, etag: str) -> SizedCollection:
        """Change what can change of a collection.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, COLLECTION_CHANGED or
                COLLECTION_BUSY.
        """
        check_name(name, field="collection.name")

        def change(collection: Collection) -> CollectionConfig:
            if etag and etag != collection.etag:
                raise _changed(name, collection.etag)
            config = edit.apply(collection.config)
            check_index(config)
            check_fields(config.fields)
            check_ttl(config.default_ttl)
            check_query_samples(config.query_samples)
            return config

        if await self._store.update(tenant_id, name, change) is None:
            raise not_found(name)
        self._forget(tenant_id, name)
        return await self.get(tenant_id, name)

    async def delete(self, tenant_id: str, name: str) -> None:
        """Delete a collection, its points and its aliases.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        check_name(name, field="collection")
        self._forget(tenant_id, name)
        if not await self._store.delete(tenant_id, name):
            raise not_found(name)

    async def use(self, tenant_id: str, name: str, work: Callable[[Collection], Awaitable[R]]) -> R:
        """Do `work` with a collection.

        Args:
            tenant_id: Whose collection.
            name: Its name, or an alias.
            work: Called a second time if what was remembered of the collection proves out
                of date; it has then changed nothing the first time.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, and what `work` raises.
        """
        known = self._known.get((tenant_id, name)) if self._trusting else None
        if known is None:
            check_name(name, field="collection")
        else:
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
            self._forget(tenant_id, name)
            raise not_found(name) from None

    def _forget(self, tenant_id: str, name: str) -> None:
        self._changes += 1
        self._known.drop((tenant_id, name))

    async def _load(self, tenant_id: str, name: str) -> Collection:
        changes = self._changes
        collection = await self._store.find(tenant_id, name)
        if collection is None:
            self._known.drop((tenant_id, name))
            raise not_found(name)
        if self._trusting and changes == self._changes:
            self._known.put((tenant_id, name), collection)
        return collection


def not_found(name: str) -> StepwireError:
    """Return the error for a collection that is not there."""
    return StepwireError(
        Reason.COLLECTION_NOT_FOUND,
        f"there is no collection {name!r}",
        metadata={"collection": name},
    )


def _changed(name: str, etag: str) -> StepwireError:
    return StepwireError(
        Reason.COLLECTION_CHANGED,
        f"collection {name!r} was changed since it was read",
        metadata={"collection": name, "etag": etag},
    )
