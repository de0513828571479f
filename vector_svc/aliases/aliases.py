"""Second names of collections, changed in one step."""

from collections.abc import Callable, Sequence
from typing import Final

from stepwire.errors import field_invalid
from stepwire.page_tokens import PageTokens
from vector_svc.aliases.ports import AliasStore
from vector_svc.aliases.records import Alias, AliasChange
from vector_svc.engine.fields import check_name, page_size_of

MAX_CHANGES: Final = 100

_PAGES = PageTokens("ListAliases")


class Aliases:
    """The aliases of all tenants. An alias names a collection and never another alias.

    Args:
        store: Where they are kept.
        changed: Called when some have changed.
    """

    def __init__(self, store: AliasStore, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed

    async def change(self, tenant_id: str, changes: Sequence[AliasChange]) -> list[Alias]:
        """Do all changes in one step, or none; return the aliases that were set.

        Raises:
            StepwireError: FIELD_INVALID, NAME_TAKEN or COLLECTION_NOT_FOUND.
        """
        if not 1 <= len(changes) <= MAX_CHANGES:
            raise field_invalid("changes", f"must have 1 to {MAX_CHANGES} entries")
        seen: set[str] = set()
        for index, change in enumerate(changes):
            check_name(change.alias, field=f"changes[{index}].alias")
            if change.collection:
                check_name(change.collection, field=f"changes[{index}].collection")
            if change.alias in seen:
                raise field_invalid(f"changes[{index}].alias", "stands twice")
            seen.add(change.alias)
        await self._store.change(tenant_id, changes)
        self._changed()
        return [Alias(change.alias, change.collection) for change in changes if change.collection]

    async def list(
        self, tenant_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[Alias], str]:
        """Return a page of aliases by name, and the token of the next ("" if none).

        Raises:
            StepwireError: FIELD_INVALID or PAGE_TOKEN_INVALID.
        """
        size = page_size_of(page_size)
        after = _PAGES.read(tenant_id, page_token)
        found = await self._store.page(tenant_id, after=after, limit=size + 1)
        if len(found) <= size:
            return found, ""
        return found[:size], _PAGES.make(tenant_id, found[size - 1].name)
