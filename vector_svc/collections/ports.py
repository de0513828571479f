"""What collections need from outside."""

from collections.abc import Awaitable
from typing import Protocol

from vector_svc.engine.records import Collection, CollectionConfig, SizedCollection


class CollectionStore(Protocol):
    """Keeps collections, by tenant and name."""

    def create(self, tenant_id: str, config: CollectionConfig) -> Awaitable[Collection]:
        """Make the collection, or return the one of this name that exists."""
        ...

    def find(self, tenant_id: str, name: str) -> Awaitable[Collection | None]:
        """Return the collection, None if there is none."""
        ...

    def page(self, tenant_id: str, *, after: str, limit: int) -> Awaitable[list[SizedCollection]]:
        """Return up to `limit` collections whose names come after `after`, by name."""
        ...

    def delete(self, tenant_id: str, name: str) -> Awaitable[bool]:
        """Delete the collection and its points; False if there was none."""
        ...

    def count(self, collection: Collection) -> Awaitable[int]:
        """Return the exact number of its points.

        Raises:
            CollectionGoneError: it is no longer there.
        """
        ...
