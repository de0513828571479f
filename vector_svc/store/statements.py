"""The SQL on one collection's table of points, filled in once per collection."""

from functools import lru_cache
from typing import Final

from stepwire.db import load_queries
from vector_svc.engine.records import Collection, Element, FieldType, role_of

_POINTS: Final = load_queries("vector_svc", "sql/points.sql")

TYPES: Final = {
    Element.FLOAT32: "vector",
    Element.FLOAT16: "halfvec",
    Element.BINARY: "bit",
}
LOOSE_TYPES: Final = {**TYPES, Element.BINARY: "varbit"}
LIVE: Final = "points.expires_at > now()"

# Larger vectors would leave too little of Postgres' pages of 8 KiB used.
_MAX_PLAIN_BYTES: Final = 6_400
_BITS: Final = {Element.FLOAT32: 32, Element.FLOAT16: 16, Element.BINARY: 1}


def create_points(collection: Collection) -> str:
    """Return the statements that make a collection's table and its indexes."""
    config = collection.config
    size = config.dimension * _BITS[config.element] // 8
    table = _POINTS.create_points.format(
        collection_id=int(collection.id),
        type=TYPES[config.element],
        dimension=int(config.dimension),
        storage="PLAIN" if size <= _MAX_PLAIN_BYTES else "EXTERNAL",
        role=role_of(collection.tenant_id),
    )
    fields = (add_field(collection.id, name, type_) for name, type_ in config.fields.items())
    return "\n".join([table, *fields])


def add_field(collection_id: int, name: str, type_: FieldType) -> str:
    """Return the statements that give a field a column; `name` was checked."""
    return _POINTS.add_field.format(
        collection_id=int(collection_id),
        field=name,
        field_type=type_.value,
        kind=type_.name.lower(),
    )


def drop_field(collection_id: int, name: str) -> str:
    """Return the statement that takes a field's column away; `name` was checked."""
    return _POINTS.drop_field.format(collection_id=int(collection_id), field=name)


def drop_points(collection_id: int) -> str:
    """Return the statement that drops a collection's table."""
    return _POINTS.drop_points.format(collection_id=int(collection_id))


def count_points(collection_ids: list[int]) -> str:
    """Return one statement that counts several collections: rows of id and count."""
    return " UNION ALL ".join(
        f"SELECT {int(collection_id)}::bigint AS collection_id, ({sql}) AS point_count"
        for collection_id in collection_ids
        for sql in [_POINTS.count_points.format(collection_id=int(collection_id), live=LIVE)]
    )


@lru_cache(maxsize=10_000)
def points_statement(
    name: str, collection_id: int, element: Element = Element.FLOAT32, **parts: str
) -> str:
    """Return a statement of `sql/points.sql` for one collection.

    Args:
        name: Its name.
        collection_id: The collection.
        element: What its vectors are stored as.
        parts: What else it has places for; made of our own constants only.
    """
    return _POINTS[name].format(
        collection_id=int(collection_id),
        type=TYPES[element],
        loose=LOOSE_TYPES[element],
        live=LIVE,
        **parts,
    )
