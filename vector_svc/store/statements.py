"""The SQL on one collection's table of points, filled in once per collection."""

from functools import lru_cache
from typing import Final

from stepwire.db import load_queries
from vector_svc.engine.records import Metric

QUERIES: Final = load_queries("vector_svc", "sql/collections.sql")
_POINTS: Final = load_queries("vector_svc", "sql/points.sql")
_SEARCHES: Final = load_queries("vector_svc", "sql/search.sql")

_OPERATORS: Final = {Metric.COSINE: "<=>", Metric.DOT: "<#>", Metric.EUCLIDEAN: "<->"}
_OPCLASSES: Final = {
    Metric.COSINE: "vector_cosine_ops",
    Metric.DOT: "vector_ip_ops",
    Metric.EUCLIDEAN: "vector_l2_ops",
}


def create_points(
    collection_id: int, *, dimension: int, metric: Metric, m: int, ef_construction: int
) -> str:
    """Return the statements that make a collection's table and indexes."""
    return _POINTS.create_points.format(
        collection_id=int(collection_id),
        dimension=int(dimension),
        opclass=_OPCLASSES[metric],
        m=int(m),
        ef_construction=int(ef_construction),
    )


def drop_points(collection_id: int) -> str:
    """Return the statement that drops a collection's table."""
    return _POINTS.drop_points.format(collection_id=int(collection_id))


def count_points(collection_ids: list[int]) -> str:
    """Return one statement that counts several collections: rows of id and count."""
    return " UNION ALL ".join(
        f"SELECT {int(collection_id)}::bigint AS collection_id, ({sql}) AS point_count"
        for collection_id in collection_ids
        for sql in [_POINTS.count_points.format(collection_id=int(collection_id))]
    )


@lru_cache(maxsize=10_000)
def points_statement(name: str, collection_id: int, metric: Metric) -> str:
    """Return a statement of `sql/points.sql` for one collection."""
    return _POINTS[name].format(collection_id=int(collection_id), operator=_OPERATORS[metric])


@lru_cache(maxsize=10_000)
def search_statement(name: str, collection_id: int, metric: Metric) -> str:
    """Return a statement of `sql/search.sql` for one collection."""
    return _SEARCHES[name].format(collection_id=int(collection_id), operator=_OPERATORS[metric])
