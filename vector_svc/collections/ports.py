"""What collections need from outside."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from vector_svc.collections.records import Stats
from vector_svc.engine.records import Collection, CollectionConfig, SizedCollection


class CollectionStore(Protocol):
    """Keeps collections, by tenant and name."""

    def create(self, tenant_id: str, config: CollectionConfig) -> Awaitable[Collection]:
        """Make the collection, or return the one of this name that exists.

        Raises:
            StepwireError: NAME_TAKEN, by an alias; FIELD_INVALID, if there is no such
                language.
        """
        ...

    def find(self, tenant_id: str, name: str) -> Awaitable[Collection | None]:
        """Return the collection of a name or an alias, None if there is none."""
        ...

    def page(self, tenant_id: str, *, after: str, limit: int) -> Awaitable[list[SizedCollection]]:
        """Return up to `limit` collections whose names come after `after`, by name."""
        ...

    def update(
        self, tenant_id: str, name: str, change: Callable[[Collection], CollectionConfig]
    ) -> Awaitable[Collection | None]:
        """Change a collection's configuration, and its table with it; None if there is none.

        Args:
            tenant_id: Whose collection.
            name: Its own name.
            change: Gives the configuration after the change; what it raises ends it.

        Raises:
            StepwireError: FIELD_INVALID, if points have values of another type in a new
                field; COLLECTION_BUSY, if fields change while points are held for long.
        """
        ...

    def delete(self, tenant_id: str, name: str) -> Awaitable[bool]:
        """Delete the collection and its points; False if there was none."""
        ...

    def sized(self, collection: Collection) -> Awaitable[SizedCollection]:
        """Return a collection with the exact number of its points.

        Raises:
            CollectionGoneError: it is no longer there.
        """
        ...

    def stats(self, collection: Collection) -> Awaitable[Stats]:
        """Return what a collection takes.

        Raises:
            CollectionGoneError: it is no longer there.
        """
        ...
