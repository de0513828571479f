"""The vector that a search is near to: given, made from text, or from other points."""

from collections.abc import Mapping

import numpy as np

from stepwire.errors import field_invalid
from vector_svc.embedding.ports import Embedder
from vector_svc.engine.records import Collection, Element, Matrix
from vector_svc.engine.vectors import vectors_of
from vector_svc.search.ports import SearchStore
from vector_svc.search.ranking import matrix_of, middle
from vector_svc.search.records import Examples, Search


class Targets:
    """Finds the vector of a search.

    Args:
        store: Where examples are read.
        embedder: Turns texts into vectors.
    """

    def __init__(self, store: SearchStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def vector_of(self, collection: Collection, search: Search) -> Matrix | None:
        """Return the vector as a matrix of one row; None if only words count.

        Raises:
            StepwireError: FIELD_INVALID, VECTOR_DIMENSION_MISMATCH, or what the model
                service says.
        """
        if search.vector:
            return _checked(collection, search.vector, f"{search.path}vector")
        if search.text:
            if not collection.config.model:
                raise field_invalid(f"{search.path}text", "the collection has no model for it")
            rows = await self._embedder.embed(collection.config.model, [search.text])
            return _checked(collection, rows.astype("<f4").tobytes(), f"{search.path}text")
        if search.examples is not None:
            return await self._between(collection, search.examples, f"{search.path}examples")
        return None

    async def _between(self, collection: Collection, examples: Examples, field: str) -> Matrix:
        element = collection.config.element
        ids = [*examples.positive_ids, *examples.negative_ids]
        vectors = await self._store.vectors(collection, ids)
        positive = _rows(vectors, examples.positive_ids, element, f"{field}.positive_ids")
        negative = _rows(vectors, examples.negative_ids, element, f"{field}.negative_ids")
        vector = middle(positive, negative if len(negative) else None)
        if element is Element.BINARY:
            packed: Matrix = np.packbits(vector > 0, axis=1)
            return packed
        return _checked(collection, vector.tobytes(), field)


def _rows(
    vectors: Mapping[str, bytes], ids: tuple[str, ...], element: Element, field: str
) -> Matrix:
    for index, point_id in enumerate(ids):
        if point_id not in vectors:
            raise field_invalid(f"{field}[{index}]", f"there is no point {point_id!r}")
    if not ids:
        return np.empty((0, 0), dtype="<f4")
    return matrix_of([vectors[point_id] for point_id in ids], element)


def _checked(collection: Collection, data: bytes, field: str) -> Matrix:
    return vectors_of(collection, [data], path=lambda _: field)
