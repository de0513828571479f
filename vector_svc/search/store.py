"""Searches in Postgres: one statement each."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from operator import sub
from typing import Any, Final

import asyncpg
import orjson

from stepwire.db import retryable
from vector_svc.collections.store import built_of
from vector_svc.engine.records import Collection, Element, IndexKind, Matrix
from vector_svc.filters.compile import compile_filter
from vector_svc.filters.records import Compiled, Node
from vector_svc.search.ports import Order, Prepared, Sizes
from vector_svc.search.records import (
    POSTINGS,
    POSTINGS_FILTERED,
    Figure,
    Found,
    Plan,
    Recall,
    RecallQueries,
)
from vector_svc.search.statements import (
    BEFORE_FILTER,
    Form,
    Layout,
    hybrid_statement,
    layout_of,
    name_of,
    near_statement,
    plain_statement,
    words_statement,
)
from vector_svc.store.codecs import decode_vector, encode_vectors
from vector_svc.store.database import Database
from vector_svc.store.places import Places

# Of so many points the share of those that match a filter is taken for that of all: 2 to 7 ms,
# and within 5 % of the share if that is a tenth (one standard deviation).
SAMPLED_POINTS: Final = 2_000

_OPERATIONS: Final = {plan: f"search_{plan}" for plan in Plan}
_NO_PLACE: Final = nullcontext()
# Among arguments, in the place of a vector that comes later.
_VECTOR: Final = None


class PostgresSearches:
    """A `SearchStore`.

    Args:
        database: Where.
        walks: Places for walks of indexes. Each keeps a core of Postgres busy for about a
            millisecond: more of them than cores gain nothing, and some wait long for a turn.
        hnsw_max_scan_tuples: Points that a walk of the index looks at before it gives up.
    """

    def __init__(self, database: Database, *, walks: Places, hnsw_max_scan_tuples: int) -> None:
        self._database = database
        self._walks = walks
        self._max_scan_tuples = str(hnsw_max_scan_tuples)

    async def sizes(self, collection: Collection, *, at_most: int) -> Sizes:
        """Return the number of points, `at_most` if there are more, and what was measured."""
        statement = plain_statement("sizes", collection.id)
        [row] = await self._fetch("sizes", collection, statement, at_most, collection.id)
        return Sizes(row["points"], None if row["target"] is None else recall_of_row(row))

    async def estimate(self, collection: Collection) -> int:
        """Return the number of points, more or less, without counting."""
        statement = plain_statement("estimate_points", collection.id)
        [row] = await self._fetch("estimate_points", collection, statement)
        [explained] = orjson.loads(row[0])
        return int(explained["Plan"]["Plan Rows"])

    async def count_matches(self, collection: Collection, filter_: Node, *, at_most: int) -> int:
        """Return the number of points that match a filter, `at_most` if there are more."""
        compiled = compile_filter(filter_, collection, first=2)
        statement = plain_statement("count_matches", collection.id, compiled.sql)
        [row] = await self._fetch(
            "count_matches", collection, statement, at_most, *compiled.arguments
        )
        return int(row[0])

    async def estimate_matches(self, collection: Collection, filter_: Node, *, rows: int) -> int:
        """Return the number of points that match a filter, more or less, of so many points."""
        compiled = compile_filter(filter_, collection, first=2)
        statement = plain_statement("sample_matches", collection.id, compiled.sql)
        percent = min(100.0, 100.0 * SAMPLED_POINTS / max(rows, 1))
        [row] = await self._fetch(
            "sample_matches", collection, statement, percent, *compiled.arguments
        )
        return int(rows * row["matches"] / row["points"]) if row["points"] else 0

    def prepare(self, collection: Collection, order: Order) -> Prepared:
        """Make an order ready to be carried out."""
        statement, arguments = self._statement(collection, order)
        behind = arguments if order.plan is Plan.WORDS else arguments[1:]
        return Prepared(collection, order, statement, behind)

    async def search(self, prepared: Prepared, vector: Matrix | None) -> list[Found]:
        """Return the best points, best first."""
        collection, order = prepared.collection, prepared.order
        config = collection.config
        arguments = arguments_of(prepared, vector)
        async with self._walks if order.plan.walks else _NO_PLACE:
            rows = await self._fetch(
                _OPERATIONS[order.plan], collection, prepared.statement, *arguments
            )
        score = partial(sub, config.metric.best) if order.words is None else float
        return [_found(row, score, config.element) for row in rows]

    async def search_together(
        self, collection: Collection, order: Order, vectors: Matrix
    ) -> list[list[Found]]:
        """Return the best points of each of several walks that differ in their vectors alone."""
        layout = layout_of(collection)
        compiled = compile_filter(order.filter, collection, first=BEFORE_FILTER["walks"] + 1)
        form = Form("walks", compiled.sql, order.payloads, order.vectors, order.times)
        _, *others = self._near(layout, order, order.wanted, order.offset)
        async with self._walks:
            rows = await self._fetch(
                "search_together",
                collection,
                near_statement(layout, form),
                encode_vectors(vectors, layout.element),
                *others,
                *compiled.arguments,
            )
        results: list[list[Found]] = [[] for _ in vectors]
        score = partial(sub, collection.config.metric.best)
        for *row, number in rows:
            results[number - 1].append(_found(row, score, layout.element))
        return results

    async def vectors(self, collection: Collection, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the vectors of the points that exist, by their ids."""
        statement = plain_statement("vectors", collection.id)
        rows = await self._fetch("vectors", collection, statement, ids)
        element = collection.config.element
        return {row["id"]: decode_vector(row["embedding"], element) for row in rows}

    def _statement(self, collection: Collection, order: Order) -> tuple[str, list[Any]]:
        """Return the statement that carries out an order, and its arguments."""
        layout = layout_of(collection)
        form = Form("", payloads=order.payloads, vectors=order.vectors, times=order.times)
        if order.plan is Plan.WORDS:
            return self._by_words(collection, layout, form, order)
        name = name_of(order.plan, layout)
        compiled = compile_filter(order.filter, collection, first=BEFORE_FILTER[name] + 1)
        if order.words is None:
            form = replace(form, name=name, condition=compiled.sql)
            arguments = self._near(layout, order, order.wanted, order.offset)
            return near_statement(layout, form), [*arguments, *compiled.arguments]
        near = Form(name, compiled.sql, payloads=False)
        return self._by_both(collection, (near, form), order, compiled)

    def _near(self, layout: Layout, order: Order, wanted: int, offset: int) -> list[Any]:
        arguments: list[Any] = [_VECTOR, wanted, offset]
        name = name_of(order.plan, layout)
        if order.plan.walks and layout.kind is IndexKind.IVFFLAT:
            arguments += [str(order.effort), str(order.most_lists)]
        elif order.plan.walks:
            arguments += [str(order.effort), self._max_scan_tuples]
        if name == "walk_and_rank":
            arguments.append(max(order.candidates, wanted))
        return arguments

    def _by_words(
        self, collection: Collection, layout: Layout, form: Form, order: Order
    ) -> tuple[str, list[Any]]:
        compiled = compile_filter(order.filter, collection, first=BEFORE_FILTER["words_only"] + 1)
        statement = words_statement(layout, form, compiled.sql if order.filter else None)
        words = _words(collection, order, depth=order.wanted)
        return statement, [order.wanted, order.offset, *words, *compiled.arguments]

    def _by_both(
        self,
        collection: Collection,
        forms: tuple[Form, Form],
        order: Order,
        compiled: Compiled,
    ) -> tuple[str, list[Any]]:
        assert order.words is not None
        layout, (near, form) = layout_of(collection), forms
        arguments = self._near(layout, order, order.depth, 0) + list(compiled.arguments)
        statement = hybrid_statement(
            layout,
            near,
            form,
            compiled.sql if order.filter else None,
            len(arguments) + 1,
            threshold=order.max_distance is not None,
        )
        arguments += _words(collection, order, depth=order.depth)
        arguments += [order.words.vector_weight, order.words.weight, order.words.k]
        arguments += [order.wanted, order.offset]
        if order.max_distance is not None:
            arguments.append(order.max_distance)
        return statement, arguments

    @retryable()
    async def _fetch(
        self, name: str, collection: Collection, statement: str, *arguments: Any
    ) -> list[asyncpg.Record]:
        async with self._database.connection(name, collection.tenant_id) as connection:
            return await connection.fetch(
                statement, *arguments, timeout=self._database.statement_seconds
            )


def arguments_of(prepared: Prepared, vector: Matrix | None) -> Sequence[object]:
    """Return what goes with a statement that is near to a vector, or to none."""
    if vector is None:
        return prepared.arguments
    return *encode_vectors(vector, prepared.collection.config.element), *prepared.arguments


def recall_of_row(row: asyncpg.Record) -> Recall:
    """Read what was measured from a row of `vector.recalls`."""
    return Recall(
        target=row["target"],
        index=built_of(row["index_built"]),
        figures=tuple(Figure(*figure) for figure in orjson.loads(row["figures"])),
        unreachable=row["unreachable"],
        samples=row["samples"],
        queries=RecallQueries(row["queries"]),
        measured_at=row["measured_at"],
    )


def _words(collection: Collection, order: Order, *, depth: int) -> list[Any]:
    text, words = collection.config.text, order.words
    assert text is not None
    assert words is not None
    postings = POSTINGS if order.filter is None else POSTINGS_FILTERED
    return [text.language, words.words, max(postings, depth), depth]


def _found(row: Iterable[Any], score: Callable[[float], float], element: Element) -> Found:
    point_id, payload, vector, changed_at, expires_at, nearness = row
    if vector is not None:
        vector = decode_vector(vector, element)
    return Found(point_id, payload, vector, "", expires_at, score(nearness), changed_at)
