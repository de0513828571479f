"""What aliases need from outside."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from vector_svc.aliases.records import Alias, AliasChange


class AliasStore(Protocol):
    """Keeps aliases, by tenant and name."""

    def change(self, tenant_id: str, changes: Sequence[AliasChange]) -> Awaitable[None]:
        """Do all changes in one step, or none.

        Raises:
            StepwireError: NAME_TAKEN, COLLECTION_NOT_FOUND, or FIELD_INVALID for an alias
                of an alias.
        """
        ...

    def page(self, tenant_id: str, *, after: str, limit: int) -> Awaitable[list[Alias]]:
        """Return up to `limit` aliases whose names come after `after`, by name."""
        ...
