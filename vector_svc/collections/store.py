"""Collections in Postgres: a row, its names, and a table of points each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from stepwire.db import load_queries, retryable
from stepwire.errors import Reason, StepwireError, field_invalid
from vector_svc.collections.records import Stats
from vector_svc.engine.fields import FIELD_RULES
from vector_svc.engine.ports import CollectionGoneError, TenantUnknownError
from vector_svc.engine.records import (
    Collection,
    CollectionConfig,
    Element,
    FieldType,
    IndexKind,
    IndexOptions,
    Metric,
    Quantization,
    SizedCollection,
    TextOptions,
    role_of,
)
from vector_svc.search.text_ddl import create_text, drop_text
from vector_svc.store import statements
from vector_svc.store.database import OWNER, Database
from vector_svc.store.index_ddl import create_index

queries = load_queries("vector_svc", "sql/collections.sql")

# How long a change of a table waits for others who use it, and later ones wait behind it.
LOCK_TIMEOUT: Final = "5s"


class NameTakenError(Exception):
    """Ends the transaction of a collection whose name another one has."""


class PostgresCollections:
    """A `CollectionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retryable()
    async def create(self, tenant_id: str, config: CollectionConfig) -> Collection:
        """Make the collection, or return the one of this name that exists.

        Of several at once one takes the name and the others wait for its commit. The one
        that exists may be deleted before it is read; then it is made after all.
        """
        await ensure_role(self._database, tenant_id)
        while True:
            made = await self._insert(tenant_id, config)
            collection = made or await self.find(tenant_id, config.name)
            if collection is None:
                continue
            if collection.config.name != config.name:
                raise name_taken(config.name, "an alias")
            return collection

    @retryable()
    async def find(self, tenant_id: str, name: str) -> Collection | None:
        try:
            async with self._database.connection("find_collection", tenant_id) as connection:
                row = await connection.fetchrow(queries.find_collection, tenant_id, name)
        except TenantUnknownError:
            return None
        return None if row is None else collection_of(row)

    @retryable()
    async def page(self, tenant_id: str, *, after: str, limit: int) -> list[SizedCollection]:
        """Return up to `limit` collections whose names come after `after`, by name.

        A collection deleted between the two statements makes them begin again.
        """
        while True:
            try:
                return await self._page(tenant_id, after, limit)
            except TenantUnknownError:
                return []
            except CollectionGoneError:
                continue

    @retryable()
    async def update(
        self, tenant_id: str, name: str, change: Callable[[Collection], CollectionConfig]
    ) -> Collection | None:
        async with (
            self._database.connection("update_collection", OWNER) as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(queries.lock_collection, tenant_id, name)
            if row is None:
                return None
            old = collection_of(row)
            new = change(old)
            if new == old.config:
                return old
            if new.fields != old.config.fields:
                await self._change_fields(connection, old, new.fields)
            row = await connection.fetchrow(
                queries.update_collection,
                old.id,
                *_index_arguments(new.index),
                _fields_argument(new.fields),
                new.default_ttl,
                new.query_samples,
            )
            assert row is not None, "it is locked"
            if new.query_samples < old.config.query_samples:
                await connection.execute(queries.drop_queries, old.id)
            return collection_of(row)

    @retryable()
    async def delete(self, tenant_id: str, name: str) -> bool:
        """Delete the collection and its points; False if there was none.

        Ends the build of its index, which would hold the table. Waits for the statements
        that use its points, and lets later ones wait for it.
        """
        async with self._database.connection("delete_collection", OWNER) as connection:
            found = await connection.fetchval(queries.cancel_builds, tenant_id, name)
            if found is None:
                return False
            async with connection.transaction():
                row = await connection.fetchrow(queries.lock_collection, tenant_id, name)
                if row is None:
                    return False
                await drop(connection, collection_of(row))
                return True

    @retryable()
    async def sized(self, collection: Collection) -> SizedCollection:
        async with self._database.connection("count_points", collection.tenant_id) as connection:
            count = await connection.fetchval(
                _statement("count_points", collection), timeout=self._database.statement_seconds
            )
            builds = await connection.fetch(queries.open_builds, [collection.id])
        return SizedCollection(collection, count, index_building=bool(builds))

    @retryable()
    async def stats(self, collection: Collection) -> Stats:
        async with self._database.connection("stats", collection.tenant_id) as connection:
            row = await connection.fetchrow(
                _statement("stats", collection), timeout=self._database.statement_seconds
            )
        assert row is not None, "an aggregate has one row"
        return Stats(**row)

    async def _insert(self, tenant_id: str, config: CollectionConfig) -> Collection | None:
        try:
            async with (
                self._database.connection("create_collection", OWNER) as connection,
                connection.transaction(),
            ):
                return await make(connection, tenant_id, config)
        except NameTakenError:
            return None

    async def _change_fields(
        self, connection: PoolConnectionProxy, old: Collection, fields: Mapping[str, FieldType]
    ) -> None:
        """Change columns, as long as nothing holds the table for long.

        Whoever reads waits behind this, and the build of an index would wait for this, which
        waits for it. No build begins meanwhile, since the collection's row is locked.
        """
        if await connection.fetch(queries.open_builds, [old.id]):
            raise _busy(old, "index_build", "its index is being built")
        await connection.execute(queries.set_lock_timeout, LOCK_TIMEOUT)
        try:
            await self._alter(connection, old, fields)
        except asyncpg.LockNotAvailableError as error:
            raise _busy(old, "reads", "its points are in use, as by an export") from error

    async def _alter(
        self, connection: PoolConnectionProxy, old: Collection, fields: Mapping[str, FieldType]
    ) -> None:
        had = old.config.fields
        for name, type_ in had.items():
            if fields.get(name) is not type_:
                await connection.execute(statements.drop_field(old.id, name))
        for name, type_ in fields.items():
            if had.get(name) is type_:
                continue
            try:
                await connection.execute(
                    statements.add_field(old.id, name, type_),
                    timeout=self._database.statement_seconds,
                )
            except asyncpg.CheckViolationError as error:
                wrong = f"points have values in {name!r} that do not fit: each {FIELD_RULES[type_]}"
                raise field_invalid("collection.fields", wrong) from error

    async def _page(self, tenant_id: str, after: str, limit: int) -> list[SizedCollection]:
        async with self._database.connection("page_of_collections", tenant_id) as connection:
            rows = await connection.fetch(queries.page_of_collections, tenant_id, after, limit)
            if not rows:
                return []
            found = [collection_of(row) for row in rows]
            ids = [collection.id for collection in found]
            counted = await connection.fetch(
                statements.count_points(ids), timeout=self._database.statement_seconds
            )
            builds = await connection.fetch(queries.open_builds, ids)
        counts: dict[int, int] = {row["collection_id"]: row["point_count"] for row in counted}
        building = {row["collection_id"] for row in builds}
        return [
            SizedCollection(collection, counts[collection.id], collection.id in building)
            for collection in found
        ]


async def ensure_role(database: Database, tenant_id: str) -> None:
    """Make the role of a tenant, unless it is there."""
    role = role_of(tenant_id)
    async with database.connection("create_role", OWNER) as connection:
        if await connection.fetchval(queries.find_role, role) is None:
            await connection.execute(queries.create_role.format(role=role))


async def make(
    connection: PoolConnectionProxy, tenant_id: str, config: CollectionConfig
) -> Collection:
    """Make a collection with its table, in the transaction of the caller.

    Args:
        connection: As the owner; the tenant's role is there.
        tenant_id: Whose it is.
        config: What it is made of.

    Raises:
        NameTakenError: its name is taken.
        StepwireError: FIELD_INVALID: there is no such language.
    """
    collection = await _insert(connection, tenant_id, config, index_now=_is_indexed_at_once(config))
    # First: of several at once, those that come too late make no tables.
    await take_name(connection, collection)
    await _make_tables(connection, collection)
    return collection


async def make_unnamed(
    connection: PoolConnectionProxy, tenant_id: str, config: CollectionConfig
) -> Collection:
    """Make a collection that nobody finds before `take_name`, and without its vector index.

    As `make`, which takes the name first, so that others who want it wait for the
    transaction.
    """
    collection = await _insert(connection, tenant_id, config, index_now=False)
    await _make_tables(connection, collection)
    return collection


async def check_name_free(connection: PoolConnectionProxy, tenant_id: str, name: str) -> None:
    """Look whether a name is free as yet.

    Raises:
        NameTakenError: it is not.
    """
    if await connection.fetchrow(queries.find_collection, tenant_id, name) is not None:
        raise NameTakenError


async def take_name(connection: PoolConnectionProxy, collection: Collection) -> None:
    """Let a collection be found by its name, in the transaction of the caller.

    Raises:
        NameTakenError: it is taken.
    """
    name = collection.config.name
    taken = await connection.fetchval(
        queries.insert_name, collection.tenant_id, name, collection.id, False
    )
    if taken is None:
        raise NameTakenError


async def drop(connection: PoolConnectionProxy, collection: Collection) -> None:
    """Delete a collection and its tables, in the transaction of the caller."""
    if collection.config.text is not None:
        await connection.execute(drop_text(collection.id))
    await connection.execute(statements.drop_points(collection.id))
    await connection.execute(queries.delete_collection, collection.id)


def collection_of(row: asyncpg.Record) -> Collection:
    """Read a collection from a row of `vector.collections`."""
    fields: dict[str, str] = orjson.loads(row["fields"])
    text = TextOptions(row["text_field"], row["text_language"]) if row["text_field"] else None
    config = CollectionConfig(
        name=row["name"],
        dimension=row["dimension"],
        metric=Metric(row["metric"]),
        element=Element(row["element"]),
        model=row["model"],
        model_version=row["model_version"],
        index=IndexOptions(
            kind=IndexKind(row["index_kind"]),
            m=row["hnsw_m"],
            ef_construction=row["hnsw_ef_construction"],
            lists=row["ivf_lists"],
            quantization=Quantization(row["quantization"]),
            min_points=row["index_min_points"],
        ),
        fields={name: FieldType(type_) for name, type_ in fields.items()},
        text=text,
        default_ttl=row["default_ttl"],
        query_samples=row["query_samples"],
    )
    return Collection(
        id=row["collection_id"],
        tenant_id=row["tenant_id"],
        config=config,
        revision=row["revision"],
        built=built_of(row["index_built"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def built_argument(options: IndexOptions) -> bytes:
    """Return what an index was made with as the column `index_built` has it."""
    return orjson.dumps(
        {
            "kind": options.kind.value,
            "m": options.m,
            "ef_construction": options.ef_construction,
            "lists": options.lists,
            "quantization": options.quantization.value,
        }
    )


def name_taken(name: str, owner: str) -> StepwireError:
    """Return the error for a name that belongs to something else."""
    return StepwireError(
        Reason.NAME_TAKEN, f"{name!r} is the name of {owner}", metadata={"name": name}
    )


def _is_indexed_at_once(config: CollectionConfig) -> bool:
    return config.index.kind is IndexKind.HNSW and config.index.min_points == 1


async def _insert(
    connection: PoolConnectionProxy, tenant_id: str, config: CollectionConfig, *, index_now: bool
) -> Collection:
    row = await connection.fetchrow(
        queries.insert_collection,
        tenant_id,
        *_arguments(config),
        built_argument(config.index) if index_now else None,
    )
    assert row is not None, "it was inserted"
    return collection_of(row)


async def _make_tables(connection: PoolConnectionProxy, collection: Collection) -> None:
    await connection.execute(statements.create_points(collection))
    if collection.config.text is not None:
        await _create_text(connection, collection, collection.config.text)
    if collection.index_ready:
        await connection.execute(create_index(collection, rows=0, concurrently=False))


async def _create_text(
    connection: PoolConnectionProxy, collection: Collection, text: TextOptions
) -> None:
    try:
        await connection.fetchval(queries.find_language, text.language)
        await connection.execute(create_text(collection.id, text, role_of(collection.tenant_id)))
    except asyncpg.UndefinedObjectError as error:
        wrong = f"Postgres has no text search configuration {text.language!r}"
        raise field_invalid("collection.text.language", wrong) from error


def _busy(collection: Collection, use: str, text: str) -> StepwireError:
    name = collection.config.name
    return StepwireError(
        Reason.COLLECTION_BUSY,
        f"the fields of collection {name!r} cannot be changed now: {text}",
        metadata={"collection": name, "use": use},
    )


def _statement(name: str, collection: Collection) -> str:
    return statements.points_statement(name, collection.id, collection.config.element)


def _arguments(config: CollectionConfig) -> Sequence[object]:
    text = config.text or TextOptions("", "")
    return (
        config.name,
        config.dimension,
        config.metric.value,
        config.element.value,
        config.model,
        config.model_version,
        *_index_arguments(config.index),
        _fields_argument(config.fields),
        text.field,
        text.language,
        config.default_ttl,
        config.query_samples,
    )


def built_of(data: bytes | None) -> IndexOptions | None:
    """Read what an index was made with from a column `index_built`."""
    if data is None:
        return None
    built = orjson.loads(data)
    return IndexOptions(
        kind=IndexKind(built["kind"]),
        m=built["m"],
        ef_construction=built["ef_construction"],
        lists=built["lists"],
        quantization=Quantization(built["quantization"]),
    )


def _index_arguments(options: IndexOptions) -> Sequence[object]:
    return (
        options.kind.value,
        options.m,
        options.ef_construction,
        options.lists,
        options.quantization.value,
        options.min_points,
    )


def _fields_argument(fields: Mapping[str, FieldType]) -> bytes:
    return orjson.dumps({name: type_.value for name, type_ in fields.items()})
