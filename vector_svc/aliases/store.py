"""Aliases in Postgres, beside the collections' own names."""

from collections.abc import Sequence

from stepwire.db import load_queries, retryable
from stepwire.errors import field_invalid
from vector_svc.aliases.records import Alias, AliasChange
from vector_svc.collections.registry import not_found
from vector_svc.collections.store import name_taken
from vector_svc.engine.ports import TenantUnknownError
from vector_svc.store.database import Database

queries = load_queries("vector_svc", "sql/aliases.sql")


class PostgresAliases:
    """An `AliasStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retryable()
    async def change(self, tenant_id: str, changes: Sequence[AliasChange]) -> None:
        """Do all changes in one step, or none.

        In the order of the aliases, so that two calls cannot wait for each other in a
        circle; the collections are kept from being deleted meanwhile.
        """
        try:
            async with (
                self._database.connection("change_aliases", tenant_id) as connection,
                connection.transaction(),
            ):
                wanted = sorted({change.collection for change in changes if change.collection})
                rows = await connection.fetch(queries.find_names, tenant_id, wanted)
                found = {row["name"]: row for row in rows}
                for change in sorted(changes, key=lambda change: change.alias):
                    if not change.collection:
                        await connection.execute(queries.delete_alias, tenant_id, change.alias)
                        continue
                    target = found.get(change.collection)
                    if target is None:
                        raise not_found(change.collection)
                    if target["is_alias"]:
                        raise field_invalid(
                            f"changes[{changes.index(change)}].collection",
                            f"{change.collection!r} is an alias; an alias names a collection",
                        )
                    done = await connection.fetchval(
                        queries.set_alias, tenant_id, change.alias, target["collection_id"]
                    )
                    if done is None:
                        raise name_taken(change.alias, "a collection")
        except TenantUnknownError:
            # It has no aliases either, so that deleting some is no error.
            if wanted := [change.collection for change in changes if change.collection]:
                raise not_found(wanted[0]) from None

    @retryable()
    async def page(self, tenant_id: str, *, after: str, limit: int) -> list[Alias]:
        try:
            async with self._database.connection("page_of_aliases", tenant_id) as connection:
                rows = await connection.fetch(queries.page_of_aliases, tenant_id, after, limit)
        except TenantUnknownError:
            return []
        return [Alias(row["name"], row["collection"]) for row in rows]
