"""The SQL of searches, made for each form of them and kept."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from stepwire.db import load_queries
from vector_svc.engine.records import (
    Collection,
    Element,
    IndexKind,
    Metric,
    Quantization,
)
from vector_svc.search.records import Plan
from vector_svc.store.statements import LIVE, LOOSE_TYPES

_SEARCH: Final = load_queries("vector_svc", "sql/search.sql")
_RECALL: Final = load_queries("vector_svc", "sql/recall.sql")

OPERATORS: Final = {
    Metric.COSINE: "<=>",
    Metric.DOT: "<#>",
    Metric.EUCLIDEAN: "<->",
    Metric.MANHATTAN: "<+>",
    Metric.HAMMING: "<~>",
    Metric.JACCARD: "<%>",
}
_VECTOR: Final = {Element.FLOAT32: "vector", Element.FLOAT16: "halfvec"}

# Parameters of each statement before those of the filter.
BEFORE_FILTER: Final = {"exact": 3, "walk": 5, "walks": 5, "walk_and_rank": 6, "words_only": 6}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a collection's statements depend on."""

    collection_id: int
    dimension: int
    metric: Metric
    element: Element
    kind: IndexKind
    quantization: Quantization


@dataclass(frozen=True, slots=True)
class Form:
    """What tells one statement of a search from another.

    Attributes:
        name: The statement in `sql/search.sql`.
        condition: The filter, compiled for its place among the parameters.
        payloads: Whether rows carry payloads.
        vectors: Whether rows carry vectors.
        times: Whether rows carry the times of their last change.
    """

    name: str
    condition: str = "TRUE"
    payloads: bool = True
    vectors: bool = False
    times: bool = False


def layout_of(collection: Collection) -> Layout:
    """Return what statements on a collection depend on."""
    config = collection.config
    return Layout(
        collection.id,
        config.dimension,
        config.metric,
        config.element,
        collection.index.kind,
        collection.index.quantization,
    )


def name_of(plan: Plan, layout: Layout) -> str:
    """Return the name of the statement that a plan by nearness needs."""
    if not plan.walks:
        return "exact"
    return "walk" if layout.quantization is Quantization.NONE else "walk_and_rank"


@lru_cache(maxsize=2_000)
def near_statement(layout: Layout, form: Form) -> str:
    """Return a search by nearness: `exact`, `walk`, `walks` or `walk_and_rank`."""
    short, operator, query = _shortened(layout)
    settings = "settings_ivfflat" if layout.kind is IndexKind.IVFFLAT else "settings_hnsw"
    return _SEARCH[form.name].format(
        collection_id=int(layout.collection_id),
        columns=_columns(form),
        condition=form.condition,
        live=LIVE,
        loose=LOOSE_TYPES[layout.element],
        operator=OPERATORS[layout.metric],
        settings=_SEARCH[settings],
        short=short,
        short_operator=operator,
        short_query=query,
    )


@lru_cache(maxsize=2_000)
def words_statement(layout: Layout, form: Form, condition: str | None) -> str:
    """Return a search by words alone.

    Args:
        layout: Of the collection.
        form: Says what rows carry.
        condition: The filter; None without.
    """
    words = _words(layout, condition, first=3)
    return _SEARCH.words_only.format(
        collection_id=int(layout.collection_id), columns=_columns(form), live=LIVE, words=words
    )


@lru_cache(maxsize=2_000)
def hybrid_statement(
    layout: Layout, near: Form, form: Form, condition: str | None, first: int, *, threshold: bool
) -> str:
    """Return a search by nearness and words.

    Args:
        layout: Of the collection.
        near: The form of the search by nearness within it.
        form: Says what rows carry.
        condition: The filter; None without.
        first: Number of the first parameter behind those of `near`: language, words,
            postings, depth, weight of nearness, weight of words, k, points to find,
            points to leave out, and the largest distance if there is a threshold.
        threshold: Whether a distance may be too large.
    """
    return _SEARCH.hybrid.format(
        collection_id=int(layout.collection_id),
        columns=_columns(form),
        k=f"${first + 6}",
        live=LIVE,
        near=near_statement(layout, near),
        offset=f"${first + 8}",
        take=f"${first + 7}",
        threshold=f"WHERE distance <= ${first + 9}::float8" if threshold else "",
        vector_weight=f"${first + 4}",
        weight=f"${first + 5}",
        words=_words(layout, condition, first=first),
    )


@lru_cache(maxsize=2_000)
def plain_statement(name: str, collection_id: int, condition: str = "TRUE") -> str:
    """Return a statement that counts, of `sql/search.sql`."""
    return _SEARCH[name].format(
        collection_id=int(collection_id), condition=f"{LIVE} AND {condition}"
    )


@lru_cache(maxsize=2_000)
def recall_statement(name: str, collection_id: int) -> str:
    """Return a statement of `sql/recall.sql`."""
    return _RECALL[name].format(collection_id=int(collection_id), live=LIVE)


def _columns(form: Form) -> str:
    # Times take as long to read as all else: they are left out where nobody asks for them.
    payload = "points.payload" if form.payloads else "NULL::jsonb AS payload"
    vector = "points.embedding" if form.vectors else "NULL AS embedding"
    changed = "points.updated_at" if form.times else "NULL::timestamptz AS updated_at"
    expires = "nullif(points.expires_at, 'infinity') AS expires_at"
    return f"{payload}, {vector}, {changed}, {expires}"


def _words(layout: Layout, condition: str | None, *, first: int) -> str:
    collection_id, depth = int(layout.collection_id), f"${first + 3}"

    def postings(most: str) -> str:
        return _SEARCH.words_postings.format(collection_id=collection_id, most=most)

    # How many of a word's points a filter leaves is not known, so that there is no bar.
    bar = having = restriction = ""
    if condition is None:
        bar = _SEARCH.words_bar.format(
            collection_id=collection_id, depth=depth, postings=postings(depth)
        )
        having = _SEARCH.words_having
    else:
        restriction = _SEARCH.words_restriction.format(
            collection_id=collection_id, condition=condition, live=LIVE
        )
    return _SEARCH.words.format(
        collection_id=collection_id,
        language=f"${first}::text",
        words=f"${first + 1}::text",
        depth=depth,
        bar=bar,
        postings=postings(f"${first + 2}"),
        having=having,
        restriction=restriction,
    )


def _shortened(layout: Layout) -> tuple[str, str, str]:
    """What the index holds in place of vectors, its operator, and the query for it."""
    operator = OPERATORS[layout.metric]
    dimension = int(layout.dimension)
    if layout.quantization is Quantization.HALF:
        query = f"$1::vector::halfvec({dimension})"
        return f"(points.embedding::halfvec({dimension}))", operator, query
    if layout.quantization is Quantization.BINARY:
        query = f"binary_quantize($1::{_VECTOR[layout.element]})::bit({dimension})"
        return f"(binary_quantize(points.embedding)::bit({dimension}))", "<~>", query
    return "points.embedding", operator, "$1"
